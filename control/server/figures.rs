//! `GET /console/figures`: the figures of the last hour, for the charts of the console. A task reads the metrics every 10 s,
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
use tandem_runtime::app::App;

use crate::metrics;

/// The time between two samples, and their maximum number: one hour.
const STEP: Duration = Duration::from_secs(10);
const MOST: usize = 361;
/// The number of steps over which a share and a mean are taken: 1 minute.
const WINDOW: usize = 6;

/// A sample of the metrics. The values of all labels of a family are added.
#[derive(Clone, Copy, Default)]
struct Sample {
    /// Seconds since 1970.
    at: i64,
    inbound: f64,
    outbound: f64,
    live: f64,
    answered: f64,
    ended: f64,
    talked: f64,
    pdd: Mean,
    mos: Mean,
    webhook: Mean,
    cpu: f64,
    shed: f64,
}

/// The sum and the number of measurements.
#[derive(Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Sample {
    /// Reads the text of the metrics.
    fn read(at: i64, page: &str) -> Self {
        let mut sample = Self { at, ..Self::default() };
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let name = series.split('{').next().unwrap_or_default();
            let place = match name {
                "tandem_legs_inbound_total" => &mut sample.inbound,
                "tandem_legs_outbound_total" => &mut sample.outbound,
                "tandem_live_legs" => &mut sample.live,
                "tandem_legs_answered_total" => &mut sample.answered,
                "tandem_legs_ended_total" => &mut sample.ended,
                "tandem_trunk_answered_seconds_total" => &mut sample.talked,
                "tandem_trunk_post_dial_seconds_sum" => &mut sample.pdd.sum,
                "tandem_trunk_post_dial_seconds_count" => &mut sample.pdd.count,
                "tandem_rtp_mos_sum" => &mut sample.mos.sum,
                "tandem_rtp_mos_count" => &mut sample.mos.count,
                "tandem_webhook_seconds_sum" => &mut sample.webhook.sum,
                "tandem_webhook_seconds_count" => &mut sample.webhook.count,
                "process_cpu_seconds_total" => &mut sample.cpu,
                "tandem_sip_requests_shed_total" => &mut sample.shed,
                _ => continue,
            };
            *place += value.parse::<f64>().unwrap_or_default();
        }
        sample
    }
}

/// A function of two samples: the earlier one, and the later one.
type Figure = fn(&Sample, &Sample) -> Option<f64>;

/// The figures: name, title, unit, whether it is taken over a window, and its value.
const FIGURES: [(&str, &str, &str, bool, Figure); 9] = [
    ("calls_per_second", "Calls a second", "1/s", false, |a, b| {
        rate(a, b, b.inbound + b.outbound - a.inbound - a.outbound)
    }),
    ("concurrency", "Live legs", "", false, |_, b| Some(b.live)),
    ("asr", "Answer-seizure ratio", "%", true, |a, b| share(100.0 * (b.answered - a.answered), b.ended - a.ended)),
    ("acd", "Average duration over trunks", "s", true, |a, b| share(b.talked - a.talked, b.ended - a.ended)),
    ("pdd", "Post-dial delay", "s", true, |a, b| mean(a.pdd, b.pdd)),
    ("mos", "MOS of ended legs", "", true, |a, b| mean(a.mos, b.mos)),
    ("webhook_seconds", "Webhook latency", "s", true, |a, b| mean(a.webhook, b.webhook)),
    ("cpu", "CPU cores", "", false, |a, b| rate(a, b, b.cpu - a.cpu)),
    ("shed", "SIP requests refused with 503, a second", "1/s", false, |a, b| rate(a, b, b.shed - a.shed)),
];

fn rate(a: &Sample, b: &Sample, count: f64) -> Option<f64> {
    share(count, (b.at - a.at) as f64)
}

fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| (part / whole).max(0.0))
}

fn mean(a: Mean, b: Mean) -> Option<f64> {
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
                    _ = step.tick() => add(&mut samples.lock(), Sample::read(clock::time().as_second(), &metrics::page(&app))),
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
    fn figures_are_differences_of_the_metrics_of_all_labels() {
        let page = |answered: u32, busy: u32, mos: f64| {
            format!(
                "# HELP tandem_legs_ended_total x\ntandem_legs_ended_total{{cause=\"a b\"}} {answered}\n\
                 tandem_legs_ended_total{{cause=\"busy\"}} {busy}\ntandem_legs_answered_total {answered}\n\
                 tandem_legs_inbound_total {}\ntandem_rtp_mos_sum {mos}\ntandem_rtp_mos_count {answered}\n",
                answered + busy
            )
        };
        let [a, b] = [Sample::read(100, &page(10, 0, 40.0)), Sample::read(110, &page(13, 1, 52.0))];
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
