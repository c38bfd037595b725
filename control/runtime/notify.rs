//! Turns the notices of dialects into webhook deliveries, and has a dialect sign each delivery before it is sent.

use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use jiff::Timestamp;
use tandem_accounts::Accounts;
use tandem_call::Method;
use tandem_call::conference::event::ConferenceInfo;
use tandem_call::id::{CallId, LegId};
use tandem_call::leg::LegInfo;
use tandem_causes::Cause;
use tandem_clock as clock;
use tandem_dialect::{Body, Dialect, Notice, ReportedError, RetryPolicy, SignInput};
use tandem_history::event_log::{ADVICE, Line};
use tandem_history::notification::{Level, Notification};
use tandem_history::report::Report;
use tandem_http::exchange::HttpExchange;
use tandem_metrics::timings::Timing;
use tandem_store::deliveries::DeliveryState;
use tandem_webhooks::{AttemptReport, Delivery, DeliveryBody, DeliveryMethod, DeliverySigner, Retry, SignedRequest};

use crate::registry::Calls;

/// The dialects by name.
#[derive(Clone, Default)]
pub struct Dialects(HashMap<&'static str, Arc<dyn Dialect>>);

impl Dialects {
    /// Creates the table from the dialects.
    pub fn new(dialects: impl IntoIterator<Item = Arc<dyn Dialect>>) -> Self {
        Self(dialects.into_iter().map(|dialect| (dialect.name(), dialect)).collect())
    }

    /// Finds the leg of a call id in the spelling of any dialect.
    pub fn parse_call_id(&self, text: &str) -> Option<LegId> {
        self.0.values().find_map(|dialect| dialect.parse_call_id(text))
    }

    /// Returns the dialect with this name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Dialect>> {
        self.0.get(name)
    }
}

/// Builds the delivery of a notice about a leg. Each session has one queue, so that an application receives the notices
/// of a call in order.
pub fn delivery(notice: Notice, dialect: &dyn Dialect, leg: &LegInfo, id: u128) -> Delivery {
    let numbered = notice.numbered.then(|| leg.id.to_string());
    let delivery = deliver(notice, dialect, (leg.session.0, &leg.account), id);
    let asked = leg.status_callback.as_ref().and_then(|callback| callback.timeout).map(millis);
    let timeout_ms = asked.unwrap_or(delivery.timeout_ms);
    Delivery { numbered, leg: Some(leg.id), timeout_ms, ..delivery }
}

/// Builds the delivery of a notice about a conference, which has a queue of its own.
pub fn conference_delivery(notice: Notice, dialect: &dyn Dialect, conference: &ConferenceInfo, id: u128) -> Delivery {
    deliver(notice, dialect, (conference.id.0, &conference.account), id)
}

/// Builds the delivery of a notice that concerns no call.
pub fn of_account(notice: Notice, dialect: &dyn Dialect, account: &str, queue: String, id: u128) -> Delivery {
    Delivery { queue, ..deliver(notice, dialect, (0, account), id) }
}

fn deliver(notice: Notice, dialect: &dyn Dialect, (session, account): (u128, &str), id: u128) -> Delivery {
    let RetryPolicy { connect, total, retries, overall, on, redirects } = dialect.patience(&notice.target.url);
    let retry = Retry { delays_ms: retries.into_iter().map(millis).collect(), on, total_ms: overall.map(millis) };
    Delivery {
        id,
        queue: format!("{session:032x}"),
        session,
        account: account.to_owned(),
        dialect: dialect.name().to_owned(),
        event: notice.event,
        url: notice.target.url.to_string(),
        failover_url: notice.failover.map(|target| target.url.to_string()),
        method: match notice.target.method {
            Method::Get => DeliveryMethod::Get,
            Method::Post => DeliveryMethod::Post,
        },
        body: match notice.body {
            Body::Form(pairs) => DeliveryBody::Form(pairs),
            Body::Json(value) => DeliveryBody::Json(value),
        },
        timeout_ms: millis(total),
        connect_timeout_ms: millis(connect),
        retries: retry,
        follow_redirects: redirects,
        numbered: None,
        leg: None,
        replay_of: None,
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// Writes an attempt of a delivery to the call's log. A delivery that has been given up is also reported as an error of
/// its account.
pub fn attempted(calls: &Calls, delivery: &Delivery, report: &AttemptReport) {
    let session = CallId(delivery.session);
    let text = format!("{} {report}", delivery.event);
    let form = match &delivery.body {
        DeliveryBody::Form(pairs) => pairs.as_slice(),
        DeliveryBody::Json(_) => &[],
    };
    let (method, attempt) = (delivery.method.as_http().to_string(), &report.attempt);
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
        services.keep_report(
            &delivery.account,
            None,
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
        // Lines are sorted by time; one microsecond later keeps this line behind the previous one.
        let at = at.saturating_add(jiff::SignedDuration::from_micros(1)).unwrap_or(at);
        calls.noted(session, Line { at, leg: None, kind: ADVICE.into(), text: cause.line(), data: None });
    }
}

/// Signs deliveries in the way of their dialect.
pub struct DialectSigner {
    /// The accounts, which have the keys.
    pub accounts: Arc<Accounts>,
    /// The dialects, which know how to sign.
    pub dialects: Dialects,
}

impl DeliverySigner for DialectSigner {
    fn seal(&self, delivery: &Delivery, attempt: u32, url: &str, now: Timestamp) -> SignedRequest {
        let (Some(dialect), Some(account)) =
            (self.dialects.get(&delivery.dialect), self.accounts.by_name(&delivery.account))
        else {
            // The account has been removed from the configuration. Its last notices are sent unsigned and without a
            // body, and receivers will refuse them.
            return SignedRequest { url: url.to_owned(), headers: Vec::new(), body: bytes::Bytes::new() };
        };
        let body = match &delivery.body {
            DeliveryBody::Form(pairs) => Body::Form(pairs.clone()),
            DeliveryBody::Json(value) => Body::Json(value.clone()),
        };
        let method = match delivery.method {
            DeliveryMethod::Get => Method::Get,
            DeliveryMethod::Post => Method::Post,
        };
        let input = SignInput { url, method, body: &body, id: delivery.token(), attempt, now };
        let sealed = dialect.seal(&account, &input);
        SignedRequest { url: sealed.url, headers: sealed.headers, body: sealed.body }
    }
}
