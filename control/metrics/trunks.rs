//! The figures that show the quality of each trunk's carrier: the rate of answered calls (ASR), the duration of calls
//! (ACD), and the time until ringing (PDD).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tandem_call::leg::{Direction, LegInfo};

use crate::families;
use crate::histogram::Histogram;
use crate::page::Page;
use crate::totals::Sum;

/// Maximum number of rows in each of the maps `ended` and `carried`. Further rows are not counted. A trunk has one row
/// in `carried` for each direction, and one row in `ended` for each direction and final response.
const MAX_ROWS: usize = 4_096;

/// Upper bounds of the buckets of the post-dial delay in seconds. After 8 s a call tries the next trunk.
const POST_DIAL: [f64; 9] = [0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0];

/// The counters of each trunk since the server's start.
#[derive(Debug, Default)]
pub(super) struct Trunks(Mutex<Rows>);

#[derive(Debug, Default)]
struct Rows {
    /// Number of ended legs by trunk, direction (`true` is inbound) and final response.
    ended: BTreeMap<(Arc<str>, bool, Option<u16>), u64>,
    carried: BTreeMap<(Arc<str>, bool), TrunkTotals>,
}

#[derive(Debug, Default)]
struct TrunkTotals {
    answered: Duration,
    /// Histogram of the post-dial delay in seconds.
    silent: Option<Histogram>,
}

impl Trunks {
    /// Counts an outbound leg that started to ring.
    pub(super) fn rings(&self, leg: &LegInfo, at: Timestamp) {
        let silent = Duration::try_from(at.duration_since(leg.created_at)).unwrap_or_default();
        self.carry(leg, |carried| {
            carried.silent.get_or_insert_with(|| Histogram::new(&POST_DIAL)).add(Some(silent.as_secs_f64()));
        });
    }

    /// Counts a leg that has ended.
    pub(super) fn ended(&self, leg: &LegInfo, at: Timestamp) {
        let Some(trunk) = &leg.sip.trunk else { return };
        self.responded(trunk, leg.direction == Direction::Inbound, leg.final_response());
        let answered = leg.duration(at);
        if !answered.is_zero() {
            self.carry(leg, |carried| carried.answered += answered);
        }
    }

    /// Counts an INVITE by its final response. `status` is `None` if there was no final response.
    pub(super) fn responded(&self, trunk: &Arc<str>, inbound: bool, status: Option<u16>) {
        if let Some(count) = row(&mut self.0.lock().ended, (Arc::clone(trunk), inbound, status)) {
            *count += 1;
        }
    }

    fn carry(&self, leg: &LegInfo, change: impl FnOnce(&mut TrunkTotals)) {
        let Some(trunk) = &leg.sip.trunk else { return };
        let inbound = leg.direction == Direction::Inbound;
        if let Some(carried) = row(&mut self.0.lock().carried, (Arc::clone(trunk), inbound)) {
            change(carried);
        }
    }

    /// Returns the seconds of answered legs, and the post-dial delays, of all trunks.
    pub(super) fn totals(&self) -> (f64, Sum) {
        let rows = self.0.lock();
        let talked = rows.carried.values().map(|carried| carried.answered.as_secs_f64()).sum();
        (talked, Sum::of(rows.carried.values().filter_map(|carried| carried.silent.as_ref())))
    }

    /// Writes the figures of each trunk.
    pub(super) fn render(&self, page: &mut Page) {
        let rows = self.0.lock();
        let mut ended = page.family(&families::TRUNK_ENDED);
        for ((trunk, inbound, status), count) in &rows.ended {
            let status = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
            ended.row(&format!("{},status=\"{status}\"", labels(trunk, *inbound)), count);
        }
        let mut answered = page.family(&families::TRUNK_ANSWERED_SECONDS);
        for ((trunk, inbound), carried) in &rows.carried {
            answered.row(&labels(trunk, *inbound), format_args!("{:.3}", carried.answered.as_secs_f64()));
        }
        let mut silent = page.family(&families::TRUNK_POST_DIAL_SECONDS);
        for ((trunk, inbound), carried) in &rows.carried {
            if let Some(histogram) = &carried.silent {
                silent.histogram(&labels(trunk, *inbound), histogram);
            }
        }
    }
}

fn row<K: Ord, V: Default>(rows: &mut BTreeMap<K, V>, key: K) -> Option<&mut V> {
    let full = rows.len() >= MAX_ROWS && !rows.contains_key(&key);
    (!full).then(|| rows.entry(key).or_default())
}

fn labels(trunk: &str, inbound: bool) -> String {
    let direction = if inbound { "inbound" } else { "outbound" };
    format!("trunk=\"{trunk}\",direction=\"{direction}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_counted_by_trunk_and_direction_in_a_limited_number_of_rows() {
        let trunks = Trunks::default();
        for (inbound, status) in
            [(false, Some(200)), (false, Some(486)), (false, Some(486)), (true, Some(200)), (false, None)]
        {
            trunks.responded(&"carrier".into(), inbound, status);
        }
        let mut page = Page::default();
        trunks.render(&mut page);
        let text = page.into_text();
        for line in [
            "{trunk=\"carrier\",direction=\"outbound\",status=\"486\"} 2\n",
            "{trunk=\"carrier\",direction=\"inbound\",status=\"200\"} 1\n",
            "{trunk=\"carrier\",direction=\"outbound\",status=\"none\"} 1\n",
        ] {
            assert!(text.contains(&format!("tandem_trunk_ended_total{line}")), "{text}");
        }
        (0..2 * MAX_ROWS).for_each(|number| trunks.responded(&number.to_string().into(), true, Some(200)));
        trunks.responded(&"carrier".into(), false, Some(486));
        assert_eq!(trunks.0.lock().ended.len(), MAX_ROWS);
        assert_eq!(trunks.0.lock().ended[&("carrier".into(), false, Some(486))], 3, "what has its row goes on");
    }
}
