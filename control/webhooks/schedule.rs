//! The schedule of a delivery, without I/O. The schedule gives the URL of each attempt and the step after the outcome
//! of the attempt.
//!
//! The number n is the number of delays plus one. Attempts 1 to n use the URL, and attempts n+1 to 2n use the failover
//! URL. So the stored number of attempts is enough to continue after a restart.

use std::time::Duration;

use tandem_http::FetchError;

use super::Delivery;

/// Maximum number of attempts at one URL, for every delivery.
const MAXIMUM_TRIES: u32 = 20;

pub(super) struct Schedule<'d> {
    delivery: &'d Delivery,
    made: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) attempt: u32,
    pub(super) url: String,
    pub(super) failover: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Delivered,
    Again { after: Duration },
    Failover,
    GivenUp,
}

impl<'d> Schedule<'d> {
    /// Returns the schedule of a delivery that already has `made` attempts.
    pub(super) fn resumed(delivery: &'d Delivery, made: u32) -> Schedule<'d> {
        Schedule { delivery, made }
    }

    pub(super) fn made(&self) -> u32 {
        self.made
    }

    /// Returns the longest pause between attempts.
    pub(super) fn longest_delay(&self) -> Duration {
        self.delivery.policy.retries.pauses.iter().copied().max().unwrap_or_default()
    }

    /// Returns the next attempt. `None` if all attempts were made.
    pub(super) fn next_target(&self) -> Option<Target> {
        let attempt = self.made.saturating_add(1);
        if attempt <= self.tries() {
            return Some(Target { attempt, url: self.delivery.url.clone(), failover: false });
        }
        let url = self.delivery.failover_url.clone()?;
        (attempt <= self.tries() * 2).then_some(Target { attempt, url, failover: true })
    }

    /// Counts an attempt and returns the next step. `remaining` is the time that remains for all further attempts
    /// together.
    pub(super) fn after(
        &mut self,
        status: Option<u16>,
        error: Option<&FetchError>,
        remaining: Option<Duration>,
    ) -> Step {
        let tries = self.tries();
        let before = self.made;
        self.made = before.saturating_add(1);
        if matches!(status, Some(200..=299)) {
            return Step::Delivered;
        }
        if remaining.is_some_and(|remaining| remaining.is_zero()) {
            return Step::GivenUp;
        }
        let at_failover = before >= tries;
        let failover = if at_failover || self.delivery.failover_url.is_none() { Step::GivenUp } else { Step::Failover };
        match self.decide(status, error) {
            RetryDecision::Final => Step::GivenUp,
            RetryDecision::UselessHere => {
                if failover == Step::Failover {
                    self.made = tries;
                }
                failover
            }
            RetryDecision::Repeat => {
                let index = usize::try_from(before % tries).unwrap_or(usize::MAX);
                match self.delivery.policy.retries.pauses.get(index) {
                    Some(&after) if !self.made.is_multiple_of(tries) => {
                        if remaining.is_some_and(|remaining| remaining <= after) {
                            Step::GivenUp
                        } else {
                            Step::Again { after }
                        }
                    }
                    _ => failover,
                }
            }
        }
    }

    fn tries(&self) -> u32 {
        let retries = self.delivery.policy.retries.pauses.len();
        u32::try_from(retries).unwrap_or(u32::MAX).saturating_add(1).min(MAXIMUM_TRIES)
    }

    fn decide(&self, status: Option<u16>, error: Option<&FetchError>) -> RetryDecision {
        match (status, error) {
            (None, Some(FetchError::Url(_) | FetchError::Refused(_))) => RetryDecision::UselessHere,
            _ if self.delivery.policy.retries.on.covers(status, error) => RetryDecision::Repeat,
            _ => RetryDecision::Final,
        }
    }
}

enum RetryDecision {
    Repeat,
    /// The URL is unusable, but the failover URL may be usable.
    UselessHere,
    Final,
}

#[cfg(test)]
mod tests {
    use tandem_call::Method;

    use super::super::{Body, Retries, RetryOn, RetryPolicy, StatusRange};
    use super::*;
    use tandem_id::AccountName;

    fn delivery(delays_ms: &[u64], failover: bool) -> Delivery {
        Delivery {
            id: 1,
            queue: "q".into(),
            session: 2,
            account: AccountName::new("acme"),
            dialect: "first".into(),
            event: "answered".into(),
            url: "http://a/".into(),
            failover_url: failover.then(|| "http://b/".into()),
            method: Method::Post,
            body: Body::Form(Vec::new()),
            policy: RetryPolicy {
                connect: Duration::from_secs(1),
                total: Duration::from_secs(1),
                retries: Retries {
                    pauses: delays_ms.iter().copied().map(Duration::from_millis).collect(),
                    on: RetryOn {
                        connect: true,
                        response: false,
                        statuses: vec![StatusRange { first: 500, last: 599 }],
                    },
                    overall: None,
                },
                redirects: false,
            },
            numbered: None,
            leg: None,
            replay_of: None,
        }
    }

    fn again(milliseconds: u64) -> Step {
        Step::Again { after: Duration::from_millis(milliseconds) }
    }

    #[test]
    fn retries_precede_the_failover_url() {
        let delivery = delivery(&[10, 20], true);
        let mut schedule = Schedule::resumed(&delivery, 0);
        let mut targets = Vec::new();
        let mut steps = Vec::new();
        while let Some(target) = schedule.next_target() {
            targets.push(target.url);
            steps.push(schedule.after(Some(503), None, None));
        }
        assert_eq!(targets, ["http://a/", "http://a/", "http://a/", "http://b/", "http://b/", "http://b/"]);
        assert_eq!(steps, [again(10), again(20), Step::Failover, again(10), again(20), Step::GivenUp]);
    }

    #[test]
    fn a_resumed_schedule_continues_after_the_stored_attempts() {
        let delivery = delivery(&[10], true);
        let targets: Vec<_> =
            (0..5).map(|made| Schedule::resumed(&delivery, made).next_target().map(|target| target.url)).collect();
        let (a, b) = (Some("http://a/".to_owned()), Some("http://b/".to_owned()));
        assert_eq!(targets, [a.clone(), a, b.clone(), b, None]);
    }

    #[test]
    fn only_failures_of_the_retry_policy_are_retried() {
        let delivery = delivery(&[10], true);
        let step =
            |status, error: Option<FetchError>| Schedule::resumed(&delivery, 0).after(status, error.as_ref(), None);
        assert_eq!(step(Some(200), None), Step::Delivered);
        assert_eq!(step(Some(404), None), Step::GivenUp);
        assert_eq!(step(Some(302), None), Step::GivenUp);
        assert_eq!(step(Some(500), None), again(10));
        assert_eq!(step(None, Some(FetchError::Dns(String::new()))), again(10));
        assert_eq!(step(None, Some(FetchError::Timeout(String::new()))), Step::GivenUp);
        assert_eq!(step(None, Some(FetchError::Refused(String::new()))), Step::Failover);
    }

    #[test]
    fn a_refused_url_without_failover_is_given_up_immediately() {
        let delivery = delivery(&[10], false);
        let mut schedule = Schedule::resumed(&delivery, 0);
        assert_eq!(schedule.after(None, Some(&FetchError::Refused(String::new())), None), Step::GivenUp);
    }

    #[test]
    fn no_attempt_starts_after_the_total_time() {
        let delivery = delivery(&[100], true);
        let left = |milliseconds| Some(Duration::from_millis(milliseconds));
        assert_eq!(Schedule::resumed(&delivery, 0).after(Some(500), None, left(101)), again(100));
        assert_eq!(Schedule::resumed(&delivery, 0).after(Some(500), None, left(100)), Step::GivenUp);
        assert_eq!(Schedule::resumed(&delivery, 1).after(Some(500), None, left(1)), Step::Failover);
        assert_eq!(Schedule::resumed(&delivery, 1).after(Some(500), None, left(0)), Step::GivenUp);
    }

    #[test]
    fn a_delivery_is_read_back_from_its_json() {
        let delivery = Delivery { id: u128::MAX, ..delivery(&[1, 2], true) };
        let text = serde_json::to_string(&delivery).unwrap();
        assert!(text.contains(r#""id":"ffffffffffffffffffffffffffffffff""#), "{text}");
        assert_eq!(serde_json::from_str::<Delivery>(&text).unwrap(), delivery);
    }

    #[test]
    fn a_delivery_stored_by_an_earlier_version_is_read() {
        let text = r#"{"id":"00000000000000000000000000000001","queue":"q","session":"00000000000000000000000000000002",
            "account":"acme","dialect":"first","event":"answered","url":"http://a/","failover_url":"http://b/",
            "method":"Post","body":{"Form":[]},"timeout_ms":1000,"connect_timeout_ms":1000,
            "retries":{"delays_ms":[10],"on":{"connect":true,"response":false,"statuses":[{"first":500,"last":599}]},
            "total_ms":null},"follow_redirects":false,"numbered":null,"leg":null,"replay_of":null}"#;
        let stored: serde_json::Value = serde_json::from_str(text).unwrap();
        let read: Delivery = serde_json::from_str(text).unwrap();
        assert_eq!(read, delivery(&[10], true));
        assert_eq!(serde_json::to_value(&read).unwrap(), stored);
    }
}
