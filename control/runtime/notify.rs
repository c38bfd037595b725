//! Reports the attempts of webhook deliveries to the call's log. A delivery that finally failed is also reported to the
//! account.

use tandem_causes::Cause;
use tandem_dialect::ReportedError;
use tandem_history::event_log::Line;
use tandem_history::members::members;
use tandem_history::problem::Problem;
use tandem_host::clock;
use tandem_http::exchange::HttpExchange;
use tandem_id::CallId;
use tandem_metrics::timings::Timing;
use tandem_store::deliveries::DeliveryState;
use tandem_webhooks::{AttemptReport, Body, Delivery};

use crate::calls::Calls;
use crate::reporting::{ProblemOwner, signature_hint};

/// Names of members of JSON webhooks that say what happened.
const TELLING: [&str; 10] = [
    "call_state",
    "state",
    "status",
    "end_reason",
    "hangup_cause",
    "hangup_source",
    "sip_hangup_cause",
    "result",
    "reason",
    "event",
];
/// Maximum number of characters that a line has of such a member.
const LONGEST_MEMBER: usize = 40;

/// Writes an attempt of a delivery to the call's log. A delivery that finally failed is also reported as an error of
/// its account.
pub fn attempted(calls: &Calls, delivery: &Delivery, report: &AttemptReport) {
    let session = CallId(delivery.session);
    let text = format!("{} {report}", delivery.event);
    let (form, json) = match &delivery.body {
        Body::Form(pairs) => (pairs.as_slice(), None),
        Body::Json(json) => (&[][..], Some(json.to_string())),
    };
    let (method, attempt) = (delivery.method.name(), &report.attempt);
    let mut exchange =
        HttpExchange::new(attempt.at, method, &attempt.url, form, attempt.elapsed).with_body(json.as_deref());
    (exchange.answer, exchange.error) = (attempt.answer.clone(), attempt.error.clone());
    exchange.signature = attempt.signature.clone();
    exchange.webhook_id = Some(format!("{:032x}", delivery.id));
    exchange.event = Some(delivery.event.clone());
    calls.services().counters.timings.took(Timing::Webhook, attempt.elapsed);
    let (account, dialect) = (&delivery.account, &*delivery.dialect);
    let owner = match delivery.leg {
        Some(id) => ProblemOwner::Leg { id, session, account, dialect },
        None => ProblemOwner::Account(account),
    };
    let problem = (report.state == DeliveryState::Failed).then(|| {
        // An attempt without a status failed before the application answered.
        let cause = attempt.cause.unwrap_or(Cause::ConnectionLost);
        let hint = signature_hint(calls.services(), owner, cause, &exchange);
        let problem = Problem { hint, ..Problem::warning(cause, format!("webhook {text}")) };
        let fault = ReportedError::Undelivered { event: &delivery.event, status: attempt.status };
        let dialect = calls.services().dialects.get(&delivery.dialect);
        let Some(code) = dialect.and_then(|dialect| dialect.error_number(fault)) else { return problem };
        let message = match attempt.status {
            Some(status) => format!("Got HTTP {status} response to {}", attempt.url),
            None => format!("{}: {}", attempt.url, attempt.error.as_deref().unwrap_or("no answer")),
        };
        problem.notified(code, message, Some(exchange.clone()))
    });
    let text = format!("{text}{}", shown_members(&delivery.body));
    let line = Line { at: clock::time(), leg: delivery.leg, kind: "webhook".into(), text, data: None };
    calls.exchanged(owner, session, exchange, Some(line), problem);
}

/// Returns the members of a JSON webhook that say what happened, as the end of the webhook's line. The webhooks with a
/// form have a name that says what happened. Digits are left out, because they may be a PIN.
fn shown_members(body: &Body) -> String {
    let Body::Json(json) = body else { return String::new() };
    let short =
        |text: String| text.chars().take(LONGEST_MEMBER).map(|one| if one == ' ' { '_' } else { one }).collect();
    let words = members(json, &TELLING).into_iter().map(|(name, text)| (name, short(text)));
    words.map(|(name, text): (_, String)| format!(" {name}={text}")).collect()
}
