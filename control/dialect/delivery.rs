//! Converts the notices of dialects to webhook deliveries. A dialect signs each delivery before the server sends the
//! delivery.

use std::sync::Arc;

use tandem_accounts::Accounts;
use tandem_call::conference::event::ConferenceInfo;
use tandem_call::leg::LegInfo;
use tandem_id::AccountName;
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
pub fn of_account(notice: Notice, dialect: &dyn Dialect, account: &AccountName, queue: String, id: u128) -> Delivery {
    Delivery { queue, ..deliver(notice, dialect, (0, account), id) }
}

fn deliver(notice: Notice, dialect: &dyn Dialect, (session, account): (u128, &AccountName), id: u128) -> Delivery {
    Delivery {
        id,
        queue: format!("{session:032x}"),
        session,
        account: account.clone(),
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
    fn sign(&self, account: &AccountName, dialect: &str, input: &SignInput<'_>) -> SignedRequest {
        match (self.dialects.get(dialect), self.accounts.by_name(account)) {
            (Some(dialect), Some(account)) => dialect.sign(&account, input),
            // The account was removed from the configuration. Its last notices are sent unsigned and without a body.
            // Receivers will refuse these notices.
            _ => SignedRequest { url: input.url.to_owned(), headers: Vec::new(), body: bytes::Bytes::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use tandem_accounts::Account;
    use tandem_call::{Callback, Method, Target};
    use tandem_webhooks::{Body, RetryPolicy};

    use crate::fake::{Fake, dialects, leg, notice};

    use super::*;

    #[test]
    fn the_notices_of_a_call_are_in_one_queue_and_only_numbered_notices_name_their_leg() {
        let (dialect, leg) = (Fake::new("a"), leg());
        let plain = of_leg(notice("http://app.test/"), &dialect, &leg, 5);
        assert_eq!((plain.id, plain.session, plain.queue.as_str()), (5, 0x2a, &*format!("{:032x}", 0x2a)));
        assert_eq!((plain.account.as_str(), plain.dialect.as_str(), plain.leg), ("acme", "a", Some(leg.id)));
        assert_eq!(plain.failover_url.as_deref(), Some("http://failover.test/"));
        assert_eq!(plain.numbered, None);
        let numbered = Notice { numbered: true, ..notice("http://app.test/") };
        let numbered = of_leg(numbered, &dialect, &leg, 6);
        assert_eq!((numbered.queue, numbered.numbered), (plain.queue, Some(leg.id.to_string())));
    }

    #[test]
    fn the_timeout_of_the_status_callback_replaces_the_timeout_of_the_dialect() {
        let (dialect, mut leg) = (Fake::new("a"), leg());
        let total = |leg: &LegInfo| of_leg(notice("http://app.test/"), &dialect, leg, 5).policy.total;
        assert_eq!(total(&leg), RetryPolicy::default().total);
        let target = Target { url: "http://app.test/".into(), method: Method::Post };
        let timeout = Some(Duration::from_secs(3));
        leg.status_callback = Some(Callback { target, failover: None, events: vec![], elsewhere: vec![], timeout });
        assert_eq!(total(&leg), Duration::from_secs(3));
    }

    #[test]
    fn a_notice_without_a_call_is_in_the_given_queue() {
        let delivery =
            of_account(notice("http://app.test/"), &Fake::new("a"), &AccountName::new("acme"), "usage".to_owned(), 5);
        assert_eq!((delivery.queue.as_str(), delivery.session, delivery.leg), ("usage", 0, None));
    }

    #[test]
    fn a_delivery_is_signed_by_its_dialect_and_is_empty_if_the_account_was_removed() {
        let account =
            Account { name: AccountName::new("acme"), twilio: None, telnyx: None, signalwire: None, operator: false };
        let signer = DialectSigner { accounts: Arc::new(Accounts::new([account])), dialects: dialects() };
        let body = Body::Form(vec![("CallSid".to_owned(), "a1".to_owned())]);
        let (method, now) = (Method::Post, Timestamp::UNIX_EPOCH);
        let input = SignInput { url: "http://app.test/", method, body: &body, id: 1, attempt: 1, now };
        let signed = signer.sign(&AccountName::new("acme"), "b", &input);
        assert_eq!(signed.headers, [("Signed".to_owned(), "acme by b".to_owned())]);
        for (account, dialect) in [("gone", "b"), ("acme", "c")] {
            let unsigned = signer.sign(&AccountName::new(account), dialect, &input);
            assert_eq!(
                (unsigned.url.as_str(), unsigned.headers.len(), unsigned.body.len()),
                ("http://app.test/", 0, 0)
            );
        }
    }
}
