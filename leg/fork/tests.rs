use super::*;
use crate::testing::{at, ended, ids};
use tandem_call::header_fields::HeaderFields;

/// The contacts that are called now, each with its branch, and the branches that are ended.
type Orders = (Vec<(u128, LegId)>, Vec<(LegId, bool)>);

fn contacts(qs: &[u16]) -> Vec<Contact> {
    qs.iter().enumerate().map(|(id, &q)| Contact { id: id as u128, q, media: MediaKind::Plain }).collect()
}

struct Bench {
    fork: Fork,
    fresh: Box<dyn FnMut() -> LegId>,
}

impl Bench {
    fn new(qs: &[u16]) -> Self {
        Self::of(contacts(qs))
    }

    fn of(contacts: Vec<Contact>) -> Self {
        let mut fresh: Box<dyn FnMut() -> LegId> = Box::new(ids());
        let fork = Fork::new(at(0), contacts, None, &mut fresh);
        Self { fork, fresh }
    }

    /// The contacts that are called now, each with its branch, and the branches that are ended.
    fn orders(&mut self) -> Orders {
        let (mut placed, mut over) = (Vec::new(), Vec::new());
        while let Some((branch, order)) = self.fork.poll_order() {
            match order {
                BranchOrder::RefuseOffer => panic!("no branch has offered"),
                BranchOrder::Place(contact) => placed.push((contact.id, branch)),
                BranchOrder::End { answered_elsewhere } => over.push((branch, answered_elsewhere)),
            }
        }
        (placed, over)
    }

    fn handle(&mut self, branch: LegId, event: SignalEvent) -> ForkEvent {
        self.fork.handle(at(1), branch, event, &mut self.fresh)
    }
}

fn refused(status: u16) -> SignalEvent {
    ended(SignalEnd { status: Some(status), ..SignalEnd::of(SignalEndCause::Refused) })
}

fn accepted() -> SignalEvent {
    SignalEvent::Accepted { sdp: Some("a".into()), headers: HeaderFields::new(), dialog: None }
}

fn local() -> SignalEvent {
    ended(SignalEnd::of(SignalEndCause::Local))
}

#[test]
fn all_contacts_of_a_preference_ring_and_the_first_acceptance_ends_the_others() {
    let mut bench = Bench::new(&[1_000, 1_000, 1_000]);
    let (placed, _) = bench.orders();
    assert_eq!(placed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(bench.handle(placed[1].1, accepted()), ForkEvent::Answered(MediaKind::Plain, accepted()));
    assert_eq!(bench.orders().1, [(placed[0].1, true), (placed[2].1, true)]);
    assert!(!bench.fork.is_ringing() && !bench.fork.is_over());
    // A second acceptance crosses the end of its branch.
    assert_eq!(bench.handle(placed[0].1, accepted()), ForkEvent::Nothing);
    assert_eq!(bench.handle(placed[0].1, local()), ForkEvent::Nothing);
    assert_eq!(bench.handle(placed[2].1, local()), ForkEvent::Nothing);
    assert!(bench.fork.is_over());
}

#[test]
fn the_next_preference_rings_after_twenty_seconds_or_when_all_have_refused() {
    let mut bench = Bench::new(&[1_000, 500, 500]);
    let (first, _) = bench.orders();
    assert_eq!(first.len(), 1);
    assert_eq!(bench.fork.poll_timeout(), Deadline::after(at(0), GROUP_RING_TIME));
    bench.fork.handle_timeout(at(19_999), &mut bench.fresh);
    assert_eq!(bench.orders(), (Vec::new(), Vec::new()));
    bench.fork.handle_timeout(at(20_000), &mut bench.fresh);
    let (next, over) = bench.orders();
    assert_eq!((next.len(), over), (2, vec![(first[0].1, false)]));
    assert_eq!(bench.fork.poll_timeout(), None);
    let mut bench = Bench::new(&[1_000, 500]);
    let (first, _) = bench.orders();
    assert_eq!(bench.handle(first[0].1, refused(486)), ForkEvent::Nothing);
    assert_eq!(bench.orders().0.len(), 1);
}

#[test]
fn the_best_refusal_of_all_contacts_is_reported() {
    for (statuses, best) in
        [([486, 404], 486), ([480, 404], 404), ([503, 487], 487), ([302, 486], 302), ([407, 404], 407)]
    {
        let mut bench = Bench::new(&[1_000, 1_000]);
        let (placed, _) = bench.orders();
        assert_eq!(bench.handle(placed[0].1, refused(statuses[0])), ForkEvent::Nothing);
        let ForkEvent::Over(end) = bench.handle(placed[1].1, refused(statuses[1])) else { panic!() };
        assert_eq!(end.status, Some(best), "{statuses:?}");
    }
}

#[test]
fn a_6xx_counts_for_all_contacts() {
    let mut bench = Bench::new(&[1_000, 1_000, 500]);
    let (placed, _) = bench.orders();
    assert_eq!(bench.handle(placed[0].1, refused(603)), ForkEvent::Nothing);
    assert_eq!(bench.orders(), (Vec::new(), vec![(placed[1].1, false)]));
    let ForkEvent::Over(end) = bench.handle(placed[1].1, local()) else { panic!() };
    assert_eq!(end.status, Some(603));
}

#[test]
fn only_the_early_media_of_one_branch_is_passed_on() {
    let mut bench = Bench::new(&[1_000, 1_000]);
    let (placed, _) = bench.orders();
    assert_eq!(bench.handle(placed[0].1, early(Some("a"))), ForkEvent::Pass(early(Some("a"))));
    assert_eq!(bench.handle(placed[1].1, early(Some("b"))), ForkEvent::Pass(early(None)));
    assert_eq!(bench.handle(placed[0].1, early(Some("a"))), ForkEvent::Pass(early(Some("a"))));
}

fn early(sdp: Option<&'static str>) -> SignalEvent {
    SignalEvent::Ringing { status: 183, sdp: sdp.map(Into::into) }
}

#[test]
fn a_branch_that_accepts_without_an_answer_is_answered_with_its_own_early_media() {
    let mut bench = Bench::new(&[1_000, 1_000]);
    let (placed, _) = bench.orders();
    bench.handle(placed[0].1, early(Some("a")));
    bench.handle(placed[1].1, early(Some("b")));
    let accepted = |sdp: Option<&'static str>| SignalEvent::Accepted {
        sdp: sdp.map(Into::into),
        headers: HeaderFields::new(),
        dialog: None,
    };
    let answered = ForkEvent::Answered(MediaKind::Plain, accepted(Some("b")));
    assert_eq!(bench.handle(placed[1].1, accepted(None)), answered);
}

#[test]
fn contacts_with_two_kinds_of_media_pass_on_no_early_media() {
    let mut mixed = contacts(&[1_000, 1_000]);
    mixed[1].media = MediaKind::WebRtc;
    let mut bench = Bench::of(mixed);
    let (placed, _) = bench.orders();
    assert_eq!(bench.handle(placed[0].1, early(Some("a"))), ForkEvent::Pass(early(None)));
    assert_eq!(bench.handle(placed[1].1, early(Some("b"))), ForkEvent::Pass(early(None)));
    assert_eq!(bench.handle(placed[1].1, accepted()), ForkEvent::Answered(MediaKind::WebRtc, accepted()));
}

#[test]
fn only_the_branch_whose_early_media_is_in_use_can_change_the_media() {
    let mut bench = Bench::new(&[1_000, 1_000]);
    let (placed, _) = bench.orders();
    bench.handle(placed[0].1, early(Some("a")));
    bench.handle(placed[1].1, early(Some("b")));
    let offered = |refusable| SignalEvent::Offered { sdp: Some("c".into()), refusable };
    assert_eq!(bench.handle(placed[0].1, offered(true)), ForkEvent::Pass(offered(true)));
    assert_eq!(bench.handle(placed[1].1, offered(false)), ForkEvent::Nothing);
    assert_eq!(bench.fork.poll_order(), None);
    assert_eq!(bench.handle(placed[1].1, offered(true)), ForkEvent::Nothing);
    assert_eq!(bench.fork.poll_order(), Some((placed[1].1, BranchOrder::RefuseOffer)));
}

#[test]
fn a_leg_that_this_server_hangs_up_ends_with_its_last_branch() {
    let mut bench = Bench::new(&[1_000, 1_000, 500]);
    let (placed, _) = bench.orders();
    assert_eq!(bench.fork.end(), None);
    assert_eq!(bench.fork.end(), None, "branches are ended once");
    assert_eq!(bench.orders(), (Vec::new(), vec![(placed[0].1, false), (placed[1].1, false)]));
    assert_eq!(bench.fork.poll_timeout(), None);
    assert_eq!(bench.handle(placed[0].1, accepted()), ForkEvent::Nothing, "an acceptance crosses the end");
    assert_eq!(bench.handle(placed[0].1, local()), ForkEvent::Nothing);
    let ForkEvent::Over(end) = bench.handle(placed[1].1, refused(487)) else { panic!() };
    assert_eq!(end.cause, SignalEndCause::Local);
}

#[test]
fn events_of_other_legs_have_no_effect() {
    let mut bench = Bench::new(&[1_000]);
    bench.orders();
    assert_eq!(bench.handle(LegId(77), refused(486)), ForkEvent::Nothing);
    assert!(!bench.fork.is_over());
}
