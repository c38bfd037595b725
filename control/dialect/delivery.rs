//! Converts the notices of dialects to webhook deliveries. A dialect signs each delivery before the server sends the
//! delivery.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tandem_accounts::Accounts;
use tandem_call::conference::event::ConferenceInfo;
use tandem_call::leg::LegInfo;
use tandem_webhooks::{Delivery, DeliveryBody, DeliverySigner, Retry, SignedRequest};

use crate::{Body, Dialect, Dialects, Notice, RetryPolicy, SignInput};

/// Creates the delivery of a notice about a leg. Each call has one queue, so that an application receives the notices
/// of the call in order.
pub fn of_leg(notice: Notice, dialect: &dyn Dialect, leg: &LegInfo, id: u128) -> Delivery {
    let numbered = notice.numbered.then(|| leg.id.to_string());
    let delivery = deliver(notice, dialect, (leg.session.0, &leg.account), id);
    let leg_timeout = leg.status_callback.as_ref().and_then(|callback| callback.timeout).map(millis);
    let timeout_ms = leg_timeout.unwrap_or(delivery.timeout_ms);
    Delivery { numbered, leg: Some(leg.id), timeout_ms, ..delivery }
}

/// Creates the delivery of a notice about a conference. Each conference has a queue of its own.
pub fn of_conference(notice: Notice, dialect: &dyn Dialect, conference: &ConferenceInfo, id: u128) -> Delivery {
    deliver(notice, dialect, (conference.id.0, &conference.account), id)
}

/// Creates the delivery of a notice that does not concern a call.
pub fn of_account(notice: Notice, dialect: &dyn Dialect, account: &str, queue: String, id: u128) -> Delivery {
    Delivery { queue, ..deliver(notice, dialect, (0, account), id) }
}

fn deliver(notice: Notice, dialect: &dyn Dialect, (session, account): (u128, &str), id: u128) -> Delivery {
    let RetryPolicy { connect, total, retries, overall, on, redirects } = dialect.retry_policy(&notice.target.url);
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
        method: notice.target.method,
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

/// Signs each delivery as the dialect of the delivery requires.
pub struct DialectSigner {
    /// The accounts, which have the signing keys.
    pub accounts: Arc<Accounts>,
    /// The dialects, which create the signatures.
    pub dialects: Dialects,
}

impl DeliverySigner for DialectSigner {
    fn sign(&self, delivery: &Delivery, attempt: u32, url: &str, now: Timestamp) -> SignedRequest {
        let (Some(dialect), Some(account)) =
            (self.dialects.get(&delivery.dialect), self.accounts.by_name(&delivery.account))
        else {
            // The account was removed from the configuration. Its last notices are sent unsigned and without a body.
            // Receivers will refuse these notices.
            return SignedRequest { url: url.to_owned(), headers: Vec::new(), body: bytes::Bytes::new() };
        };
        let body = match &delivery.body {
            DeliveryBody::Form(pairs) => Body::Form(pairs.clone()),
            DeliveryBody::Json(value) => Body::Json(value.clone()),
        };
        let input = SignInput { url, method: delivery.method, body: &body, id: delivery.token(), attempt, now };
        let signed = dialect.sign(&account, &input);
        SignedRequest { url: signed.url, headers: signed.headers, body: signed.body }
    }
}
