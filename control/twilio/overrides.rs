//! Connection overrides: timeouts and retries in the fragment of an application's URL.

use std::ops::RangeInclusive;
use std::time::Duration;

use tandem_webhooks::{RetryOn, RetryPolicy, pauses};

const TIME: RangeInclusive<u64> = 100..=15_000;
/// The words for failures in a retry policy.
const FAILURES: [&str; 5] = ["4xx", "5xx", "ct", "rt", "all"];
/// Error number of a timeout that is out of range.
const TIMES: u32 = 11242;
/// Error number of an invalid retry count or retry policy.
const POLICY: u32 = 11243;

/// The timeouts and retries for the application at `url`. Values that are out of range are ignored.
pub(super) fn retry_policy(url: &str) -> RetryPolicy {
    let mut retry_policy = RetryPolicy::default();
    let fragment = url.split_once('#').map_or("", |(_, fragment)| fragment);
    for (key, value) in fragment.split('&').filter_map(|pair| pair.split_once('=')) {
        let number = |range: RangeInclusive<u64>| value.parse().ok().filter(|number| range.contains(number));
        let time = |range| number(range).map(Duration::from_millis);
        match key {
            "ct" => retry_policy.connect = time(100..=10_000).unwrap_or(retry_policy.connect),
            "rt" => retry_policy.total = time(TIME).unwrap_or(retry_policy.total),
            "tt" => retry_policy.retries.overall = time(TIME),
            "rc" => {
                if let Some(count) = number(0..=5).and_then(|count| usize::try_from(count).ok()) {
                    retry_policy.retries.pauses = pauses(count);
                }
            }
            "rp" => repeat_on(&mut retry_policy, value),
            _ => {}
        }
    }
    retry_policy
}

/// The ignored overrides of a URL. Each pair has the provider's error number and the reason.
pub(super) fn faults(url: &str) -> Vec<(u32, String)> {
    let fragment = url.split_once('#').map_or("", |(_, fragment)| fragment);
    let mut faults = Vec::new();
    for (key, value) in fragment.split('&').filter_map(|pair| pair.split_once('=')) {
        let within = |range: RangeInclusive<u64>| value.parse().is_ok_and(|number| range.contains(&number));
        let (fine, code) = match key {
            "ct" => (within(100..=10_000), TIMES),
            "rt" | "tt" => (within(TIME), TIMES),
            "rc" => (within(0..=5), POLICY),
            "rp" => (value.split(',').all(|word| FAILURES.contains(&word)), POLICY),
            _ => continue,
        };
        if !fine {
            let value: String = value.chars().take(40).collect();
            faults.push((code, format!("connection override {key}={value} is not valid; it was ignored")));
        }
    }
    faults
}

fn repeat_on(retry_policy: &mut RetryPolicy, words: &str) {
    let words: Vec<_> = words.split(',').collect();
    if words.iter().any(|word| !FAILURES.contains(word)) {
        return;
    }
    let named = |word| words.contains(&"all") || words.contains(&word);
    let statuses = [("4xx", (400, 499)), ("5xx", (500, 599))];
    retry_policy.retries.on = RetryOn {
        connect: named("ct"),
        response: named("rt"),
        statuses: statuses.into_iter().filter(|(word, _)| named(word)).map(|(_, range)| range.into()).collect(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_webhooks::StatusRange;

    #[test]
    fn a_url_without_overrides_has_the_default_retry_policy() {
        for url in ["http://h/", "http://h/#", "http://h/#part", "http://h/#e=ashburn&sni=y"] {
            assert_eq!(retry_policy(url), RetryPolicy::default(), "{url}");
        }
    }

    #[test]
    fn a_url_fragment_sets_timeouts_and_retries() {
        let retry_policy = retry_policy("http://h/?a=b#ct=200&rt=3000&tt=9000&rc=2&rp=5xx,rt");
        let milliseconds = Duration::from_millis;
        assert_eq!((retry_policy.connect, retry_policy.total), (milliseconds(200), milliseconds(3000)));
        assert_eq!(
            (retry_policy.retries.overall, retry_policy.retries.pauses),
            (Some(milliseconds(9000)), [250, 500].map(milliseconds).to_vec())
        );
        let on = retry_policy.retries.on;
        assert!(on.response && !on.connect);
        assert_eq!(on.statuses, [StatusRange { first: 500, last: 599 }]);
        let all = [(400, 499), (500, 599)].map(StatusRange::from);
        assert_eq!(super::retry_policy("http://h/#rp=all").retries.on.statuses, all);
        assert!(super::retry_policy("http://h/#rc=0").retries.pauses.is_empty());
    }

    #[test]
    fn an_override_out_of_range_is_ignored_and_reported() {
        let url = "http://h/#ct=99&rt=15001&tt=x&rc=6&rp=6xx";
        assert_eq!(retry_policy(url), RetryPolicy::default());
        let codes: Vec<u32> = faults(url).into_iter().map(|(code, _)| code).collect();
        assert_eq!(codes, [TIMES, TIMES, TIMES, POLICY, POLICY]);
        assert_eq!(faults("http://h/#ct=100&rt=15000&tt=100&rc=5&rp=all&e=ashburn&sni=y"), []);
    }

    #[test]
    fn every_override_accepts_both_ends_of_its_range() {
        let milliseconds = Duration::from_millis;
        for (url, connect, total, overall, count) in [
            ("http://h/#ct=100&rt=100&tt=100&rc=0", 100, 100, 100, 0),
            ("http://h/#ct=10000&rt=15000&tt=15000&rc=5", 10_000, 15_000, 15_000, 5),
        ] {
            let retry_policy = retry_policy(url);
            assert_eq!((retry_policy.connect, retry_policy.total), (milliseconds(connect), milliseconds(total)));
            let retries = retry_policy.retries;
            assert_eq!((retries.overall, retries.pauses.len()), (Some(milliseconds(overall)), count));
        }
    }
}
