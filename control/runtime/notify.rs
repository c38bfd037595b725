//! Reports the attempts of webhook deliveries to the call's log. A delivery that finally failed is also reported to the
//! account.

use std::sync::Arc;

use tandem_call::id::CallId;
use tandem_causes::Cause;
use tandem_clock as clock;
use tandem_dialect::{Dialect, ReportedError};
use tandem_history::event_log::{ADVICE, Line};
use tandem_history::notification::{Level, Notification};
use tandem_history::report::Report;
use tandem_http::exchange::HttpExchange;
use tandem_metrics::timings::Timing;
use tandem_store::deliveries::DeliveryState;
use tandem_webhooks::{AttemptReport, Delivery, DeliveryBody};

use crate::calls::Calls;

/// Writes an attempt of a delivery to the call's log. A delivery that finally failed is also reported as an error of
/// its account.
pub fn attempted(calls: &Calls, delivery: &Delivery, report: &AttemptReport) {
    let session = CallId(delivery.session);
    let text = format!("{} {report}", delivery.event);
    let form = match &delivery.body {
        DeliveryBody::Form(pairs) => pairs.as_slice(),
        DeliveryBody::Json(_) => &[],
    };
    let (method, attempt) = (delivery.method.name(), &report.attempt);
    let mut exchange = HttpExchange::new(attempt.at, method, &attempt.url, form, attempt.elapsed);
    (exchange.answer, exchange.error) = (attempt.answer.clone(), attempt.error.clone());
    calls.services().counters.timings.took(Timing::Webhook, attempt.elapsed);
    if report.state == DeliveryState::Failed {
        let (cause, advice) = (attempt.cause, attempt.cause.map(Cause::advice));
        tracing::warn!(call = %session, cause = cause.map(tracing::field::display), advice, "webhook {text}");
        let services = calls.services();
        let fault = ReportedError::Undelivered { event: &delivery.event, status: attempt.status };
        let number = |dialect: &Arc<dyn Dialect>| dialect.error_number(fault);
        let code = services.dialects.get(&delivery.dialect).and_then(number);
        services.keep_report_of(
            &delivery.account,
            delivery.leg,
            Level::Warning,
            attempt.at,
            Report {
                cause,
                code,
                message: format!("webhook {text}"),
                hint: None,
                call: delivery.leg.and_then(|leg| Some(services.dialects.get(&delivery.dialect)?.call_id(leg))),
                session: Some(session.to_string()),
                request: None,
            },
        );
        if let Some(code) = code {
            let message = match attempt.status {
                Some(status) => format!("Got HTTP {status} response to {}", attempt.url),
                None => format!("{}: {}", attempt.url, attempt.error.as_deref().unwrap_or("no answer")),
            };
            let trouble = Notification { code, message, cause, exchange: Some(exchange.clone()) };
            services.note_notification(&delivery.account, delivery.leg, Level::Warning, trouble);
        }
    }
    let given_up = report.state == DeliveryState::Failed;
    let at = clock::time();
    let line = Line { at, leg: None, kind: "webhook".into(), text, data: None };
    calls.exchanged(session, delivery.leg, exchange, Some(line));
    if let Some(cause) = attempt.cause.filter(|_| given_up) {
        // The log is sorted by time. A time one microsecond later keeps this line behind the previous line.
        let at = at.saturating_add(jiff::SignedDuration::from_micros(1)).unwrap_or(at);
        calls.add_log_line(session, Line { at, leg: None, kind: ADVICE.into(), text: cause.line(), data: None });
    }
}
