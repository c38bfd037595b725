//! `GET /console/figures`: the figures of the last hour, for the charts of the console. A task reads the counters every 10 s,
//! so the figures need no other program.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use parking_lot::Mutex;
use serde::Serialize;
use tandem_console::access::Operator;
use tandem_host::clock;
use tandem_metrics::{Sum, Totals};
use tandem_runtime::app::App;

/// The time between two samples, and their maximum number: one hour.
const STEP: Duration = Duration::from_secs(10);
const MOST: usize = 361;
/// The number of steps over which a share and a mean are taken: 1 minute.
const WINDOW: usize = 6;

/// A sample of the counters.
#[derive(Clone, Copy, Default)]
struct Sample {
    /// Seconds since 1970.
    at: i64,
    totals: Totals,
    /// The number of legs with a media session.
    live: f64,
    /// The number of SIP requests that were refused with 503.
    shed: f64,
}

impl Sample {
    fn take(app: &App) -> Self {
        let services = app.calls.services();
        Self {
            at: clock::time().as_second(),
            totals: services.counters.totals(),
            live: services.media.load().sessions as f64,
            shed: services.sip.statistics().shed as f64,
        }
    }
}

/// A function of two samples: the earlier one, and the later one.
type Figure = fn(&Sample, &Sample) -> Option<f64>;

/// The figures: name, title, unit, whether it is taken over a window, and its value.
const FIGURES: [(&str, &str, &str, bool, Figure); 9] = [
    ("calls_per_second", "Calls a second", "1/s", false, |a, b| rate(a, b, b.totals.legs - a.totals.legs)),
    ("concurrency", "Live legs", "", false, |_, b| Some(b.live)),
    ("asr", "Answer-seizure ratio", "%", true, |a, b| {
        share(100.0 * (b.totals.answered - a.totals.answered), b.totals.ended - a.totals.ended)
    }),
    ("acd", "Average duration over trunks", "s", true, |a, b| {
        share(b.totals.talked - a.totals.talked, b.totals.ended - a.totals.ended)
    }),
    ("pdd", "Post-dial delay", "s", true, |a, b| mean(a.totals.post_dial, b.totals.post_dial)),
    ("mos", "MOS of ended legs", "", true, |a, b| mean(a.totals.mos, b.totals.mos)),
    ("webhook_seconds", "Webhook latency", "s", true, |a, b| mean(a.totals.webhook, b.totals.webhook)),
    ("cpu", "CPU cores", "", false, |a, b| rate(a, b, b.totals.cpu - a.totals.cpu)),
    ("shed", "SIP requests refused with 503, a second", "1/s", false, |a, b| rate(a, b, b.shed - a.shed)),
];

fn rate(a: &Sample, b: &Sample, count: f64) -> Option<f64> {
    share(count, (b.at - a.at) as f64)
}

fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| (part / whole).max(0.0))
}

fn mean(a: Sum, b: Sum) -> Option<f64> {
    share(b.sum - a.sum, b.count - a.count)
}

/// The samples of the last hour, the oldest first.
#[derive(Clone, Default)]
pub(super) struct Figures(Arc<Mutex<VecDeque<Sample>>>);

impl Figures {
    /// Starts the task that takes the samples. It ends when the server stops accepting calls.
    pub(super) fn start(app: App) -> Self {
        let figures = Self::default();
        let samples = Arc::clone(&figures.0);
        tokio::spawn(async move {
            let mut step = tokio::time::interval(STEP);
            loop {
                tokio::select! {
                    _ = step.tick() => add(&mut samples.lock(), Sample::take(&app)),
                    () = app.calls.draining() => return,
                }
            }
        });
        figures
    }
}

fn add(samples: &mut VecDeque<Sample>, sample: Sample) {
    if samples.len() >= MOST {
        samples.pop_front();
    }
    samples.push_back(sample);
}

#[derive(Serialize)]
pub(super) struct Shown {
    step_seconds: u64,
    series: Vec<Series>,
}

#[derive(Serialize)]
struct Series {
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    /// Times in seconds since 1970, and values. A value is absent if nothing was measured.
    points: Vec<(i64, Option<f64>)>,
}

/// `GET /console/figures`: the figures of the last hour.
pub(super) async fn answer(Extension(figures): Extension<Figures>, State(_): State<App>, _: Operator) -> Json<Shown> {
    let samples: Vec<Sample> = figures.0.lock().iter().copied().collect();
    let series = FIGURES.iter().map(|(name, title, unit, has_window, figure)| {
        let width = if *has_window { WINDOW } else { 1 };
        let points = samples.iter().enumerate().skip(1).map(|(end, sample)| {
            let before = samples.get(end.saturating_sub(width)).unwrap_or(sample);
            (sample.at, figure(before, sample).map(|value| (value * 1_000.0).round() / 1_000.0))
        });
        Series { name, title, unit, points: points.collect() }
    });
    Json(Shown { step_seconds: STEP.as_secs(), series: series.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_differences_of_two_samples() {
        let sample = |at, answered: f64, busy: f64, mos| {
            let (legs, ended, mos) = (answered + busy, answered + busy, Sum { sum: mos, count: answered });
            Sample { at, totals: Totals { legs, answered, ended, mos, ..Totals::default() }, ..Sample::default() }
        };
        let [a, b] = [sample(100, 10.0, 0.0, 40.0), sample(110, 13.0, 1.0, 52.0)];
        let value = |wanted: &str| FIGURES.iter().find(|one| one.0 == wanted).and_then(|one| one.4(&a, &b));
        assert_eq!(value("asr"), Some(75.0));
        assert_eq!(value("calls_per_second"), Some(0.4));
        assert_eq!(value("mos"), Some(4.0));
        assert_eq!(value("pdd"), None, "nothing was measured");
    }

    #[test]
    fn an_hour_of_samples_is_kept() {
        let mut samples = VecDeque::new();
        (0..500).for_each(|at| add(&mut samples, Sample { at, ..Sample::default() }));
        assert_eq!((samples.len(), samples[0].at), (MOST, 139));
    }
}
