//! All data of one call: legs, timeline, HTTP exchanges, webhooks, recordings and errors.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use tandem_call::leg::{LegInfo, Quality, QualityPoint};
use tandem_call::recording::Recording;
use tandem_causes::Cause;
use tandem_history::event_log::{ADVICE, Line};
use tandem_history::records;
use tandem_history::report::REPORTS;
use tandem_host::clock;
use tandem_http::exchange::HttpExchange;
use tandem_id::{CallId, LegId, RecordingId};
use tandem_runtime::app::App;
use tandem_store::recordings::{self, RecordingFilter};
use tandem_store::{self as store, deliveries, resources};

use super::call_row::CallRow;
use super::errors::ErrorRow;
use super::webhooks::WebhookRow;
use super::{QueryError, Scope, names};

/// Maximum number of errors of one call that are returned.
const MAX_ERRORS: u32 = 200;

/// All data of a call.
#[derive(Serialize)]
pub(super) struct Story {
    session: CallId,
    calls: Vec<Leg>,
    timeline: Vec<TimelineLine>,
    requests: Vec<Request>,
    /// The number of requests for documents without an answer yet. The call may have ended.
    pending_requests: usize,
    webhooks: Vec<WebhookRow>,
    recordings: Vec<RecordingRow>,
    errors: Vec<ErrorRow>,
    quality_series: Vec<QualitySeries>,
}

/// A leg of the call, with details that lists do not contain.
#[derive(Serialize)]
struct Leg {
    /// The name of the leg: `caller`, `callee`, `callee 2`, ...
    name: String,
    #[serde(flatten)]
    row: CallRow,
    sip_call_id: Option<String>,
    source_ip: Option<String>,
    quality: Option<Quality>,
}

#[derive(Serialize)]
pub(super) struct TimelineLine {
    at: Timestamp,
    /// Seconds since the first line.
    seconds: f64,
    /// The name of the leg that the line concerns.
    call: Option<String>,
    kind: String,
    text: String,
    /// The cause, if the kind of the line is `advice`.
    cause: Option<Cause>,
    /// The event as data, if the text does not say everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<serde_json::Value>>,
}

impl TimelineLine {
    /// Returns a hash of the time, the leg, the kind and the text. The hash does not depend on the other lines.
    pub(super) fn mark(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.at, &self.call, &self.kind, &self.text).hash(&mut hasher);
        hasher.finish()
    }
}

/// Returns the timeline of a call. `names` are the names of the call's legs.
pub(super) fn timeline(lines: Vec<Line>, names: &HashMap<LegId, String>) -> Vec<TimelineLine> {
    let first = lines.first().map(|line| line.at);
    let line = |line: Line| TimelineLine {
        at: line.at,
        seconds: first.map_or(0.0, |first| line.at.duration_since(first).as_secs_f64()),
        call: line.leg.and_then(|leg| names.get(&leg).cloned()),
        cause: if line.kind == ADVICE { Cause::of_line(&line.text) } else { None },
        kind: line.kind.into_owned(),
        text: line.text,
        data: line.data,
    };
    lines.into_iter().map(line).collect()
}

/// An HTTP exchange with an application, in either direction.
#[derive(Serialize)]
struct Request {
    /// The name of the leg that the exchange concerns.
    call: Option<String>,
    #[serde(flatten)]
    exchange: HttpExchange,
}

#[derive(Serialize)]
struct RecordingRow {
    #[serde(skip)]
    recording: RecordingId,
    id: String,
    /// The name of the recorded leg.
    call: Option<String>,
    status: String,
    started_at: Timestamp,
    seconds: Option<f64>,
    channels: i64,
    path: String,
}

/// The quality of the audio that a leg received, over time.
#[derive(Serialize)]
struct QualitySeries {
    /// The name of the leg.
    call: String,
    points: Vec<QualityShown>,
}

/// The quality in the interval that ended at this time.
#[derive(Serialize)]
struct QualityShown {
    at: Timestamp,
    mos: Option<f32>,
    jitter_ms: f32,
    loss_percent: f32,
    packets: u32,
}

impl QualityShown {
    fn of(point: &QualityPoint) -> Self {
        let QualityPoint { at, packets, lost, jitter_ms, mos } = *point;
        let expected = (u64::from(packets) + u64::from(lost)).max(1);
        let loss_percent = (f64::from(lost) * 10_000.0 / expected as f64).round() as f32 / 100.0;
        Self { at, mos, jitter_ms, loss_percent, packets }
    }
}

impl Story {
    /// Returns the ids and the states of the recordings.
    pub(super) fn recordings(&self) -> impl Iterator<Item = (RecordingId, &str)> {
        self.recordings.iter().map(|row| (row.recording, &*row.status))
    }

    /// Returns the lines of the timeline.
    pub(super) fn timeline(&self) -> &[TimelineLine] {
        &self.timeline
    }

    /// Reads all data of a call. `legs` are the visible legs of the call, oldest leg first.
    pub(super) async fn read(
        app: &App,
        scope: &Scope,
        session: CallId,
        legs: &[Arc<LegInfo>],
    ) -> Result<Self, QueryError> {
        let services = app.calls.services();
        let store = &services.store;
        // A request that ends now has reported its failure before the next line.
        let pending_requests = services.pending.count(session);
        // The report must have every problem that was reported before the request.
        store.flush().await?;
        let names = names(legs.iter().map(|leg| &**leg));
        // The points of a live leg come from the media engine.
        app.calls.measure(legs.iter().filter(|leg| leg.end.is_none()).map(|leg| leg.id)).await;
        let log = app.calls.log(session).await?;
        let requests = log
            .exchanges
            .into_iter()
            .map(|(leg, exchange)| Request { call: leg.and_then(|leg| names.get(&leg).cloned()), exchange });
        let deliveries = deliveries::list(store, session.0).await?;
        let deliveries = deliveries.into_iter().filter(|row| scope.sees(&row.account));
        let filter = RecordingFilter { session: Some(session.0), ..RecordingFilter::default() };
        let accounts = scope.accounts(app, None);
        let mut recorded = recordings::list(store, &accounts, &filter, &store::Page::first(100)).await?;
        let mut errors = Vec::new();
        for leg in legs {
            let filter = resources::Filter { parent: Some(leg.id.0), ..resources::Filter::default() };
            let page = store::Page::first(MAX_ERRORS);
            errors.extend(resources::list(store, REPORTS, &leg.account, &filter, &page).await?);
        }
        recorded.sort_by_key(|row| row.started_at);
        errors.sort_by_key(|row| row.created_at);
        let rows = CallRow::listed(services, legs.iter().map(|leg| &**leg), clock::time()).await?;
        Ok(Self {
            session,
            calls: legs
                .iter()
                .zip(rows)
                .map(|(leg, row)| Leg {
                    name: names.get(&leg.id).cloned().unwrap_or_default(),
                    row,
                    sip_call_id: leg.sip.call_id.as_deref().map(str::to_owned),
                    source_ip: leg.sip.source_ip.map(|ip| ip.to_string()),
                    quality: leg.sip.quality,
                })
                .collect(),
            timeline: timeline(log.lines, &names),
            requests: requests.collect(),
            pending_requests,
            webhooks: deliveries.filter_map(WebhookRow::of).collect(),
            recordings: recorded
                .iter()
                .filter_map(|row| Some((row, records::recording_of(row)?)))
                .map(|(row, recording): (_, Recording)| RecordingRow {
                    recording: recording.id,
                    id: recording.id.to_string(),
                    call: names.get(&recording.leg).cloned(),
                    status: recording.status.to_string(),
                    started_at: recording.started_at,
                    seconds: recording.duration.map(|length| length.as_secs_f64()),
                    channels: row.channels,
                    path: row.path.clone(),
                })
                .collect(),
            errors: errors.into_iter().map(ErrorRow::of).collect(),
            quality_series: log
                .quality
                .iter()
                .filter_map(|(leg, points)| Some((names.get(leg)?.clone(), points)))
                .map(|(call, points)| QualitySeries { call, points: points.iter().map(QualityShown::of).collect() })
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_line_does_not_change_the_marks_of_the_other_lines() {
        let line = |second: i64, text: &str| Line {
            at: Timestamp::from_second(second).unwrap(),
            leg: Some(LegId(1)),
            kind: "call".into(),
            text: text.to_owned(),
            data: None,
        };
        let names = HashMap::from([(LegId(1), "caller".to_owned())]);
        let before = timeline(vec![line(2, "ringing")], &names);
        let after = timeline(vec![line(1, "initiated"), line(2, "ringing")], &names);
        assert_eq!((before[0].seconds, after[1].seconds), (0.0, 1.0));
        assert_eq!(before[0].mark(), after[1].mark());
        assert_ne!(after[0].mark(), after[1].mark());
    }
}
