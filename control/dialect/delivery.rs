//! Converts the notices of dialects to webhook deliveries. A dialect signs each delivery before the server sends the
//! delivery.

use std::sync::Arc;

use tandem_accounts::Accounts;
use tandem_call::conference::event::ConferenceInfo;
use tandem_call::leg::LegInfo;
use tandem_webhooks::{Delivery, DeliverySigner, SignInput, SignedRequest};

use crate::{Dialect, Dialects, Notice};

/// Creates the delivery of a notice about a leg. Each call has one queue, so that an application receives the notices
/// of the call in order.
pub fn of_leg(notice: Notice, dialect: &dyn Dialect, leg: &LegInfo, id: u128) -> Delivery {
    let numbered = notice.numbered.then(|| leg.id.to_string());
    let mut delivery = deliver(notice, dialect, (leg.session.0, &leg.account), id);
    if let Some(timeout) = leg.status_callback.as_ref().and_then(|callback| callback.timeout) {
        delivery.policy.total = timeout;
    }
    Delivery { numbered, leg: Some(leg.id), ..delivery }
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
    Delivery {
        id,
        queue: format!("{session:032x}"),
        session,
        account: account.to_owned(),
        dialect: dialect.name().to_owned(),
        event: notice.event,
        policy: dialect.retry_policy(&notice.target.url),
        url: notice.target.url.to_string(),
        failover_url: notice.failover.map(|target| target.url.to_string()),
        method: notice.target.method,
        body: notice.body,
        numbered: None,
        leg: None,
        replay_of: None,
    }
}

/// Signs each delivery as the dialect of the delivery requires.
pub struct DialectSigner {
    /// The accounts, which have the signing keys.
    pub accounts: Arc<Accounts>,
    /// The dialects, which create the signatures.
    pub dialects: Dialects,
}

impl DeliverySigner for DialectSigner {
    fn sign(&self, account: &str, dialect: &str, input: &SignInput<'_>) -> SignedRequest {
        match (self.dialects.get(dialect), self.accounts.by_name(account)) {
            (Some(dialect), Some(account)) => dialect.sign(&account, input),
            // The account was removed from the configuration. Its last notices are sent unsigned and without a body.
            // Receivers will refuse these notices.
            _ => SignedRequest { url: input.url.to_owned(), headers: Vec::new(), body: bytes::Bytes::new() },
        }
    }
}
