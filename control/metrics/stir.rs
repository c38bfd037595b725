//! Counters for the verification and signing of caller numbers (STIR), for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

use tandem_sip::stir::Fault;

use crate::families;
use crate::page::Page;

/// The results of a verification: `passed`, or the word of a fault ([`Fault::word`]).
const RESULTS: [&str; 7] = ["passed", "absent", "stale", "unreachable", "unsupported", "certificate", "invalid"];
/// The kinds of outbound calls, according to the Identity headers that were sent.
const SIGNING_RESULTS: [&str; 6] = ["signed-A", "signed-B", "signed-C", "diverted", "passed-on", "unsigned"];

/// Numbers of calls since the start of the server.
#[derive(Debug, Default)]
pub struct Tally {
    results: [AtomicU64; RESULTS.len()],
    signed: [AtomicU64; SIGNING_RESULTS.len()],
}

impl Tally {
    /// Counts a verified call. `fault` is the fault that the verification found, if there is one.
    pub fn verified(&self, fault: Option<&Fault>) {
        count(&RESULTS, &self.results, fault.map_or("passed", Fault::word));
    }

    /// Counts an outbound call. `word` is a word of `SIGNING_RESULTS`.
    pub fn signed(&self, word: &str) {
        count(&SIGNING_RESULTS, &self.signed, word);
    }

    /// Writes the counters.
    pub(super) fn render(&self, page: &mut Page) {
        page.counters(&families::STIR_VERIFIED, "result", RESULTS.iter().zip(&self.results));
        page.counters(&families::STIR_VOUCHED, "how", SIGNING_RESULTS.iter().zip(&self.signed));
    }
}

fn count(words: &[&str], counters: &[AtomicU64], word: &str) {
    let counter = words.iter().position(|one| *one == word).and_then(|at| counters.get(at));
    if let Some(counter) = counter {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stir_result_has_a_metric_line() {
        let tally = Tally::default();
        tally.verified(None);
        for fault in [
            Fault::Absent,
            Fault::Stale { age: 90 },
            Fault::Unreachable(String::new()),
            Fault::Unsupported(String::new()),
            Fault::Certificate(String::new()),
            Fault::Invalid(String::new()),
        ] {
            tally.verified(Some(&fault));
        }
        tally.signed("passed-on");
        let mut page = Page::default();
        tally.render(&mut page);
        let text = page.into_text();
        for result in RESULTS {
            assert!(text.contains(&format!("tandem_stir_verified_total{{result=\"{result}\"}} 1\n")), "{text}");
        }
        assert!(text.contains("tandem_stir_vouched_total{how=\"passed-on\"} 1\n"), "{text}");
        assert!(text.contains("tandem_stir_vouched_total{how=\"signed-A\"} 0\n"), "{text}");
    }
}
