//! The fair division of a limit between nodes.

use tandem_store::slices::SliceRow;

use super::{Urgency, Usage};

/// A row of another node, or of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Share {
    pub(super) amount: u32,
    pub(super) need: u32,
    pub(super) urgency: Urgency,
}

impl Share {
    pub(super) fn of(row: &SliceRow) -> Self {
        Self { amount: row.amount, need: row.need, urgency: Urgency::of(row.urgency) }
    }

    pub(super) fn headroom(&self) -> u32 {
        self.amount.saturating_sub(self.need)
    }
}

/// A node that takes part in the division of a limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) epoch: i64,
    pub(super) share: Share,
    /// Whether the node takes new calls. A node that does not take any gets only what it has.
    pub(super) takes_calls: bool,
}

/// A division of a limit between the nodes.
pub(super) struct Division {
    /// The fair part of this node.
    pub(super) own: u32,
    /// The other nodes that take calls, each with its fair part.
    others: Vec<(Share, u32)>,
}

impl Division {
    /// Gives each node what it needs, and divides the rest equally. If the needs are larger than the limit, a node with a
    /// small need gets all of it, and the others get equal parts. What cannot be divided goes to the most urgent node;
    /// `turn` chooses between nodes that need more than they get.
    pub(super) fn of(own: i64, limit: u32, claims: Vec<Claim>, turn: i64) -> Self {
        let needs: u64 = claims.iter().map(|claim| u64::from(claim.share.need)).sum();
        let parts = match u64::from(limit).checked_sub(needs) {
            Some(free) => share_free(u32::try_from(free).unwrap_or(u32::MAX), claims),
            None => share_scarce(limit, claims, turn),
        };
        let mut division = Self { own: 0, others: Vec::new() };
        for (claim, part) in parts {
            if claim.epoch == own {
                division.own = part;
            } else if claim.takes_calls {
                division.others.push((claim.share, part));
            }
        }
        division
    }

    /// Whether another node has so little that this node, with this usage, should give it something.
    pub(super) fn has_short_node(&self, usage: &Usage) -> bool {
        self.others.iter().any(|(share, part)| {
            let fair = part.saturating_sub(share.need);
            let has_little = fair == 0 || u64::from(share.headroom()) * 2 < u64::from(fair);
            *part > share.amount && (has_little || share.urgency > usage.urgency)
        })
    }
}

/// Returns the parts if the needs are not above the limit. `free` is the difference.
fn share_free(free: u32, claims: Vec<Claim>) -> Vec<(Claim, u32)> {
    let (mut takers, others): (Vec<Claim>, Vec<Claim>) = claims.into_iter().partition(|claim| claim.takes_calls);
    let (each, rest) = divide(free, takers.len());
    takers.sort_by_key(|Claim { epoch, share, .. }| {
        // A part that cannot be divided stays where it is.
        let has_it = share.amount > share.need.saturating_add(each);
        (std::cmp::Reverse((share.urgency, has_it)), *epoch)
    });
    let ranked = takers.into_iter().enumerate();
    let parts = ranked.map(|(rank, claim)| (claim, claim.share.need + each + u32::from(rank < rest)));
    parts.chain(others.into_iter().map(|claim| (claim, claim.share.need))).collect()
}

/// Returns the parts if the needs are above the limit.
fn share_scarce(limit: u32, mut claims: Vec<Claim>, turn: i64) -> Vec<(Claim, u32)> {
    let mut parts = Vec::with_capacity(claims.len());
    let mut left = limit;
    // From the smallest need on: a node gets its need, if this is not more than an equal part of what is left.
    claims.sort_by_key(|claim| std::cmp::Reverse(claim.share.need));
    while let Some(smallest) = claims.last().copied() {
        if smallest.share.need > divide(left, claims.len()).0 {
            break;
        }
        left -= smallest.share.need;
        parts.push((smallest, smallest.share.need));
        claims.pop();
    }
    let (each, rest) = divide(left, claims.len());
    claims.sort_by_key(|claim| claim.epoch);
    let first = i64::try_from(claims.len()).ok().and_then(|count| turn.checked_rem_euclid(count)).unwrap_or(0);
    claims.rotate_left(usize::try_from(first).unwrap_or(0));
    claims.sort_by_key(|claim| std::cmp::Reverse(claim.share.urgency));
    let ranked = claims.into_iter().enumerate();
    parts.extend(ranked.map(|(rank, claim)| (claim, each + u32::from(rank < rest))));
    parts
}

/// Divides a number into equal parts. Returns the part and the rest. Without parts, there is no rest.
fn divide(number: u32, parts: usize) -> (u32, usize) {
    let parts = u32::try_from(parts).unwrap_or(u32::MAX);
    let (each, rest) = number.checked_div(parts).zip(number.checked_rem(parts)).unwrap_or((0, 0));
    (each, rest as usize)
}
