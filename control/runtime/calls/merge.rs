//! Merges the live legs and the records of ended legs into one page of a list.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use tandem_call::leg::LegInfo;
use tandem_history::query;
use tandem_store as store;
use tandem_store::calls::CallFilter;

/// Returns the number of ended legs to skip, and the number of ended legs to read after them, for a page of a list that
/// also has `live` live legs. At most all live legs are before the page. So at least `offset - live` of the skipped legs
/// have ended, and the page has none of these.
pub(super) fn read(page: &store::Page, live: usize) -> (u64, usize) {
    let may_be_live = page.offset.min(live as u64);
    (page.offset - may_be_live, page.limit as usize + usize::try_from(may_be_live).unwrap_or(usize::MAX))
}

/// Returns a page of both kinds of legs, newest leg first. The first `skip` legs are not on the page. If a leg is in both
/// lists, it has ended after the live legs were read, and its record counts.
pub(super) fn page(
    filter: &CallFilter,
    mut live: Vec<Arc<LegInfo>>,
    over: Vec<Arc<LegInfo>>,
    skip: u64,
    limit: u32,
) -> Vec<Arc<LegInfo>> {
    let ended: HashSet<_> = over.iter().map(|leg| leg.id).collect();
    live.retain(|leg| !ended.contains(&leg.id));
    live.extend(over);
    live.sort_by_key(|leg| Reverse(query::cursor(filter, leg)));
    live.into_iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)).take(limit as usize).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tandem_call::leg::{EndCause, EndedBy, LegEnd, Status};
    use tandem_call::testing::CallScript;
    use tandem_id::LegId;

    use super::*;

    /// A leg with this id, which is also the second in which it was created.
    fn leg(id: u128, is_over: bool) -> Arc<LegInfo> {
        let info = (*CallScript::commanded().events().next().unwrap().leg).clone();
        let created_at = Timestamp::from_second(id as i64).unwrap();
        let end = is_over.then_some(LegEnd {
            at: created_at,
            cause: EndCause::NormalClearing,
            by: EndedBy::Server,
            sip_status: None,
            detail: None,
            failure: None,
        });
        let status = if is_over { Status::Completed } else { Status::InProgress };
        Arc::new(LegInfo { id: LegId(id), created_at, end, status, ..info })
    }

    /// Returns the ids of each page with this limit of a list with these live and ended legs. The ended legs are read as
    /// the database would return them.
    fn pages(live: &[u128], over: &[u128], limit: u32) -> Vec<u128> {
        let filter = CallFilter::default();
        let mut ids = Vec::new();
        loop {
            let request = store::Page { limit, offset: ids.len() as u64, ..store::Page::default() };
            let (skipped, wanted) = read(&request, live.len());
            let rows = over.iter().rev().skip(skipped as usize).take(wanted).map(|id| leg(*id, true)).collect();
            let live = live.iter().map(|id| leg(*id, false)).collect();
            let legs = page(&filter, live, rows, request.offset - skipped, limit);
            if legs.is_empty() {
                return ids;
            }
            assert!(legs.len() <= limit as usize);
            ids.extend(legs.iter().map(|leg| leg.id.0));
        }
    }

    #[test]
    fn pages_have_each_leg_once_in_any_order_of_live_and_ended_legs() {
        // Each bit of the number says whether the leg of this position is live.
        for pattern in 0..256_u32 {
            let (live, over): (Vec<u128>, Vec<u128>) = (0..8).partition(|id| pattern & (1 << id) != 0);
            for limit in 1..=9 {
                assert_eq!(pages(&live, &over, limit), [7, 6, 5, 4, 3, 2, 1, 0], "{pattern:b}, pages of {limit}");
            }
        }
    }

    #[test]
    fn a_leg_that_ends_between_the_two_reads_is_listed_once_as_ended() {
        let live = vec![leg(3, false), leg(2, false)];
        let over = vec![leg(2, true), leg(1, true)];
        let legs = page(&CallFilter::default(), live, over, 0, 10);
        let legs: Vec<_> = legs.iter().map(|leg| (leg.id.0, leg.status.is_final())).collect();
        assert_eq!(legs, [(3, false), (2, true), (1, true)]);
    }
}
