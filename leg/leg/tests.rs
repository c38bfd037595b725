//! Two legs, of which each is the far end of the other, on a virtual clock. Each signal is lost, repeated or delayed once;
//! each leg is ended, and stored and restored, at each moment.

use std::collections::VecDeque;

use super::*;
use crate::attempt::CalledUser;
use crate::internal::Link;
use crate::signal::{RedirectContact, RedirectTarget};
use crate::testing::{Media, at, ended, ids, text};
use tandem_call::header_fields::HeaderFields;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Caller,
    Called,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Ring(bool),
    Accept,
    Refuse,
    Refresh(Side),
    Digit(Side),
    End(Side),
}

/// The fault of the signal with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Lost(usize),
    Twice(usize),
    /// The signal comes after the next one.
    Late(usize),
    /// This leg is ended before the signal comes.
    EndedBefore(usize, Side),
    /// This leg is stored and restored before the signal comes.
    RestoredBefore(usize, Side),
}

struct Pair {
    legs: [Leg; 2],
    media: [Media; 2],
    link: Link,
    wire: VecDeque<(Side, SignalEvent)>,
    delivered: usize,
    fault: Fault,
    reports: [Vec<LegEvent>; 2],
    digits: [String; 2],
}

impl Pair {
    fn new(fault: Fault) -> Self {
        Self {
            legs: [Leg::outgoing(LegId(1)), Leg::incoming(LegId(2))],
            media: [Media::default(), Media::default()],
            link: Link::default(),
            wire: VecDeque::new(),
            delivered: 0,
            fault,
            reports: [Vec::new(), Vec::new()],
            digits: [String::new(), String::new()],
        }
    }

    /// Runs the steps, then ends both legs. Returns the number of signals.
    fn run(&mut self, steps: &[Step]) -> usize {
        let routes = vec![LegRoute { uri: "sip:b".into(), name: "b".into(), ..LegRoute::default() }];
        let [caller, called] = &mut self.legs;
        caller.place(at(0), routes, &mut self.media[0], &mut ids());
        let Some(Output::Place(Placement { offer, .. })) = caller.poll_output() else { panic!() };
        called.begin(offer, &mut self.media[1]).unwrap();
        for step in steps {
            self.step(*step);
            self.drain();
        }
        let signals = self.delivered;
        self.fault = Fault::None;
        for side in [Side::Caller, Side::Called] {
            self.step(Step::End(side));
            self.drain();
        }
        signals
    }

    fn step(&mut self, step: Step) {
        let [caller, called] = &mut self.legs;
        match step {
            Step::Ring(early_media) => {
                called.ring(Progress { alerting: !early_media, early_media }, Some(&mut self.media[1]));
            }
            Step::Accept => called.accept(Some(&mut self.media[1])),
            Step::Refuse => called.refuse(RejectReason::Busy),
            Step::Refresh(side) => {
                let event = SignalEvent::RefreshDue;
                let media = Some(&mut self.media[side as usize]);
                let own = self.legs[side as usize].id();
                self.legs[side as usize].handle_signal(at(2), own, event, media, &mut ids());
            }
            Step::Digit(side) => {
                let command = SignalCommand::Digit { digit: '5', duration_ms: 100 };
                self.legs[side as usize].signal(command);
            }
            Step::End(Side::Caller) => caller.end(None),
            Step::End(Side::Called) => called.end(None),
        }
        self.collect();
    }

    /// Carries the outputs of both legs to the wire.
    fn collect(&mut self) {
        for (index, (own, other)) in
            [(Side::Caller, Side::Called), (Side::Called, Side::Caller)].into_iter().enumerate()
        {
            while let Some(output) = self.legs[index].poll_output() {
                match output {
                    Output::Signal { command, .. } => {
                        let carried = self.link.carry(command);
                        self.wire.extend(carried.other.map(|event| (other, event)));
                        self.wire.extend(carried.own.map(|event| (own, event)));
                    }
                    Output::Event(event) => {
                        let is_over = matches!(self.reports[index].last(), Some(LegEvent::Ended { .. }));
                        assert!(!is_over, "{event:?} after the end, with {:?}", self.fault);
                        self.reports[index].push(event);
                    }
                    Output::Digit { digit, .. } => self.digits[index].push(digit),
                    Output::SendSilence(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn drain(&mut self) {
        while let Some((side, event)) = self.wire.pop_front() {
            let number = self.delivered;
            self.delivered += 1;
            match self.fault {
                // The end of a signalling is always reported (its timers see to that).
                Fault::Lost(lost) if lost == number && !matches!(event, SignalEvent::Ended(_)) => continue,
                Fault::Twice(twice) if twice == number => self.deliver(side, event.clone()),
                Fault::Late(late) if late == number => {
                    if let Some((next_side, next)) = self.wire.pop_front() {
                        self.delivered += 1;
                        self.deliver(next_side, next);
                    }
                }
                Fault::EndedBefore(before, ended) if before == number => self.step(Step::End(ended)),
                Fault::RestoredBefore(before, side) if before == number => self.restore(side),
                _ => {}
            }
            self.deliver(side, event);
        }
    }

    fn deliver(&mut self, side: Side, event: SignalEvent) {
        let (leg, media) = (&mut self.legs[side as usize], &mut self.media[side as usize]);
        let own = leg.id();
        leg.handle_signal(at(1), own, event, Some(media), &mut ids());
        self.collect();
    }

    fn restore(&mut self, side: Side) {
        let leg = &mut self.legs[side as usize];
        let bytes = serde_json::to_vec(&leg.write(at(1))).unwrap();
        *leg = Leg::read(serde_json::from_slice(&bytes).unwrap(), at(1));
    }
}

fn scripts() -> Vec<Vec<Step>> {
    use Step::{Accept, Digit, End, Refresh, Refuse, Ring};
    let talk = [Digit(Side::Caller), Refresh(Side::Caller), Digit(Side::Called), Refresh(Side::Called)];
    let mut scripts = vec![
        vec![Ring(false), Refuse],
        vec![Refuse],
        vec![End(Side::Caller)],
        vec![Ring(false), End(Side::Caller)],
        vec![Ring(true), End(Side::Called)],
    ];
    for begin in [&[Accept][..], &[Ring(false), Accept], &[Ring(true), Accept], &[Ring(true), Ring(true), Accept]] {
        for end in [Side::Caller, Side::Called] {
            scripts.push(begin.iter().chain(&talk).copied().chain([End(end)]).collect());
        }
    }
    scripts
}

fn is_answered(reports: &[LegEvent]) -> bool {
    reports.iter().any(|event| matches!(event, LegEvent::Answered { .. }))
}

#[test]
fn an_undisturbed_call_is_reported_once_on_each_side() {
    for script in scripts() {
        let mut pair = Pair::new(Fault::None);
        pair.run(&script);
        let ends: Vec<_> = pair
            .reports
            .iter()
            .map(|reports| reports.iter().filter(|event| matches!(event, LegEvent::Ended { .. })).count())
            .collect();
        // The side that ends the leg gets no report of its end.
        assert_eq!(ends.iter().sum::<usize>(), 1, "{script:?}: {:?}", pair.reports);
        assert_eq!(is_answered(&pair.reports[0]), script.contains(&Step::Accept), "{script:?}");
        assert_eq!(pair.digits, if script.contains(&Step::Accept) { ["5", "5"] } else { ["", ""] }.map(str::to_owned));
        assert!(pair.legs.iter().all(Leg::is_gone));
    }
}

#[test]
fn the_loss_repetition_or_delay_of_any_signal_leaves_no_leg_behind() {
    for script in scripts() {
        let signals = Pair::new(Fault::None).run(&script);
        for number in 0..signals {
            for fault in [Fault::Lost(number), Fault::Twice(number), Fault::Late(number)] {
                let mut pair = Pair::new(fault);
                pair.run(&script);
                assert!(pair.legs.iter().all(Leg::is_gone), "{fault:?} in {script:?}");
                for reports in &pair.reports {
                    let answers = reports.iter().filter(|event| matches!(event, LegEvent::Answered { .. })).count();
                    assert!(answers <= 1 || fault == Fault::Twice(number), "{fault:?} in {script:?}: {reports:?}");
                }
            }
        }
    }
}

#[test]
fn a_leg_that_is_hung_up_at_any_moment_ends_on_both_sides() {
    for script in scripts() {
        let signals = Pair::new(Fault::None).run(&script);
        for number in 0..signals {
            for side in [Side::Caller, Side::Called] {
                let mut pair = Pair::new(Fault::EndedBefore(number, side));
                pair.run(&script);
                assert!(pair.legs.iter().all(Leg::is_gone), "{side:?} before {number} in {script:?}");
            }
        }
    }
}

#[test]
fn a_leg_that_is_resumed_from_a_snapshot_at_any_moment_continues_unchanged() {
    for script in scripts() {
        let mut undisturbed = Pair::new(Fault::None);
        let signals = undisturbed.run(&script);
        for number in 0..signals {
            for side in [Side::Caller, Side::Called] {
                let mut pair = Pair::new(Fault::RestoredBefore(number, side));
                pair.run(&script);
                assert_eq!(pair.reports, undisturbed.reports, "{side:?} before {number} in {script:?}");
                assert_eq!(pair.digits, undisturbed.digits);
                let negotiations = |pair: &Pair| pair.legs.each_ref().map(|leg| leg.negotiation().clone());
                assert_eq!(negotiations(&pair), negotiations(&undisturbed));
            }
        }
    }
}

// ---- one leg ----

struct Bench {
    leg: Leg,
    media: Media,
    now: u64,
    fresh: Box<dyn FnMut() -> LegId>,
}

impl Bench {
    fn placed(routes: Vec<LegRoute>) -> Self {
        let (leg, media) = (Leg::outgoing(LegId(1)), Media::default());
        let mut bench = Self { leg, media, now: 0, fresh: Box::new(ids()) };
        bench.leg.place(at(0), routes, &mut bench.media, &mut bench.fresh);
        bench
    }

    fn handle(&mut self, branch: LegId, event: SignalEvent) -> Vec<Output> {
        self.leg.handle_signal(at(self.now), branch, event, Some(&mut self.media), &mut self.fresh);
        self.outputs()
    }

    fn own(&mut self, event: SignalEvent) -> Vec<Output> {
        self.handle(LegId(1), event)
    }

    fn wait(&mut self, milliseconds: u64) -> Vec<Output> {
        self.now += milliseconds;
        self.leg.handle_timeout(at(self.now), Some(&mut self.media), &mut self.fresh);
        self.outputs()
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.leg.poll_output()).collect()
    }
}

fn trunk(name: &str) -> LegRoute {
    let failover_on = vec![503];
    let (uri, name, trunk) = (format!("sip:{name}"), format!("trunk {name}"), Some(name.into()));
    LegRoute { uri, name, trunk, failover_on, follows_redirects: true, ..LegRoute::default() }
}

fn refused(status: u16) -> SignalEnd {
    SignalEnd { status: Some(status), reason: Some("no".into()), ..SignalEnd::of(SignalEndCause::Refused) }
}

fn accepted() -> SignalEvent {
    SignalEvent::Accepted { sdp: Some("a".into()), headers: HeaderFields::new(), dialog: None }
}

#[test]
fn a_failed_route_leads_to_the_next_route_with_a_new_offer() {
    let mut bench = Bench::placed(vec![trunk("a"), trunk("b")]);
    let [Output::Place(first)] = &bench.outputs()[..] else { panic!() };
    assert!(first.has_alternatives && first.offer.as_deref() == Some(b"offer 1"));
    let outputs = bench.own(ended(refused(503)));
    let [Output::RouteFailed(failed), Output::Place(second)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((&*failed.line, failed.status), ("503 no; next: trunk \"b\"", Some(503)));
    assert_eq!((&second.next, second.offer.as_deref()), (&Next::Route(1), Some(&b"offer 2"[..])));
    assert!(!second.has_alternatives);
    let outputs = bench.own(ended(refused(503)));
    let [Output::Event(LegEvent::Ended { sip_status: Some(503), .. })] = &outputs[..] else { panic!("{outputs:?}") };
}

#[test]
fn a_redirected_call_is_made_with_the_first_offer() {
    let mut bench = Bench::placed(vec![trunk("a")]);
    bench.outputs();
    let contacts = vec![RedirectContact { target: RedirectTarget::Number("+41".into()), q: 1_000 }];
    let outputs = bench.own(ended(SignalEnd { contacts, ..refused(302) }));
    let [Output::Place(placement)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(placement.next, Next::Redirect(0, RedirectTarget::Number("+41".into())));
    assert_eq!(placement.offer, None);
    assert!(matches!(bench.own(accepted())[..], [Output::Event(LegEvent::Answered { .. })]));
}

#[test]
fn the_end_of_an_answered_leg_calls_no_other_contact_of_a_redirection() {
    let mut bench = Bench::placed(vec![trunk("a"), trunk("b")]);
    bench.outputs();
    let contact = |uri: &str| RedirectContact { target: RedirectTarget::Uri(uri.into()), q: 1_000 };
    let contacts = vec![contact("sip:c"), contact("sip:d")];
    assert!(matches!(bench.own(ended(SignalEnd { contacts, ..refused(302) }))[..], [Output::Place(_)]));
    assert!(matches!(bench.own(accepted())[..], [Output::Event(LegEvent::Answered { .. })]));
    // The far end has lost the dialog: it refuses a re-INVITE (RFC 3261 §14.1).
    let outputs = bench.own(ended(refused(481)));
    assert!(matches!(outputs[..], [Output::Event(LegEvent::Ended { .. })]), "{outputs:?}");
}

#[test]
fn a_leg_that_was_ended_tries_no_other_route() {
    for end in [refused(503), refused(302), SignalEnd::of(SignalEndCause::NoResponse)] {
        let mut bench = Bench::placed(vec![trunk("a"), trunk("b")]);
        bench.leg.end(None);
        bench.outputs();
        let outputs = bench.own(ended(end));
        assert!(matches!(outputs[..], [Output::Event(LegEvent::Ended { .. })]), "{outputs:?}");
        assert!(bench.leg.is_gone());
    }
}

#[test]
fn a_user_without_contacts_is_unavailable_and_the_next_route_is_tried_if_480_counts_as_failure() {
    let user = |name: &str| Some(CalledUser { name: name.into(), contacts: Vec::new() });
    let mut bench = Bench::placed(vec![LegRoute { user: user("alice"), ..trunk("a") }]);
    let outputs = bench.outputs();
    let [Output::Event(LegEvent::Ended { sip_status: Some(480), detail: Some(detail), .. })] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(detail, "480 alice is not registered");
    let first = LegRoute { user: user("alice"), failover_on: vec![480], ..trunk("a") };
    let mut bench = Bench::placed(vec![first, trunk("b")]);
    assert!(matches!(bench.outputs()[..], [Output::RouteFailed(_), Output::Place(_)]));
}

#[test]
fn a_user_rings_at_each_contact_and_the_answered_branch_becomes_the_leg() {
    let contacts = [1_000, 1_000, 500]
        .iter()
        .enumerate()
        .map(|(id, &q)| Contact { id: id as u128, q, media: MediaKind::Plain })
        .collect();
    let user = Some(CalledUser { name: "alice".into(), contacts });
    let mut bench = Bench::placed(vec![LegRoute { user, ..trunk("a") }]);
    let outputs = bench.outputs();
    let [Output::Place(a), Output::Place(b)] = &outputs[..] else { panic!("{outputs:?}") };
    assert!(a.offer.is_some() && a.offer == b.offer && a.branch != b.branch);
    assert_eq!(bench.leg.branches().collect::<Vec<_>>(), [a.branch, b.branch]);
    let ringing = SignalEvent::Ringing { status: 180, sdp: None };
    assert!(matches!(bench.handle(a.branch, ringing)[..], [Output::Event(LegEvent::Ringing { .. })]));
    let outputs = bench.wait(20_000);
    let [Output::Signal { .. }, Output::Signal { .. }, Output::Place(c)] = &outputs[..] else { panic!("{outputs:?}") };
    let outputs = bench.handle(c.branch, accepted());
    let [Output::Signal { .. }, Output::Signal { branch, command }, Output::Adopt { branch: own }, Output::Event(_)] =
        &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    let SignalCommand::End { reason: Some(reason), .. } = command else { panic!() };
    assert_eq!((*branch, &**reason, *own), (b.branch, ending::ELSEWHERE, c.branch));
    // The ends of the other branches do not end the leg, and its own end does.
    let local = || ended(SignalEnd::of(SignalEndCause::Local));
    assert!(bench.handle(a.branch, local()).is_empty() && bench.handle(b.branch, local()).is_empty());
    assert_eq!(bench.leg.branches().collect::<Vec<_>>(), [c.branch]);
    // A hang-up right after the answer still has the id of the branch.
    let outputs = bench.handle(c.branch, ended(SignalEnd::of(SignalEndCause::HungUp)));
    assert!(matches!(outputs[..], [Output::Event(LegEvent::Ended { .. })]), "{outputs:?}");
}

#[test]
fn a_hangup_of_a_ringing_user_ends_the_leg_after_its_last_branch() {
    let contacts = (0..2).map(|id| Contact { id, q: 1_000, media: MediaKind::Plain }).collect();
    let user = Some(CalledUser { name: "alice".into(), contacts });
    let mut bench = Bench::placed(vec![LegRoute { user, ..trunk("a") }, trunk("b")]);
    bench.outputs();
    let branches: Vec<_> = bench.leg.branches().collect();
    let cause = tandem_call::leg::EndCause::NoAnswer;
    bench.leg.end(Some(HangupReason { cause, answered_elsewhere: false }));
    let outputs = bench.outputs();
    assert!(outputs.iter().all(|output| matches!(output,
        Output::Signal { command: SignalCommand::End { reason: Some(reason), .. }, .. } if reason.contains("cause=19"))));
    assert_eq!(outputs.len(), 2);
    assert!(bench.handle(branches[0], ended(refused(487))).is_empty() && !bench.leg.is_gone());
    assert!(bench.handle(branches[1], ended(refused(487))).is_empty() && bench.leg.is_gone());
}

#[test]
fn lost_signalling_may_return_within_thirty_seconds() {
    let mut bench = Bench::placed(vec![trunk("a")]);
    bench.own(accepted());
    assert_eq!(bench.own(SignalEvent::Lost), [Output::Lost { branch: LegId(1) }]);
    assert_eq!(bench.leg.poll_timeout(), Deadline::after(at(0), Duration::from_secs(30)));
    assert!(bench.wait(29_999).is_empty());
    assert_eq!(bench.own(SignalEvent::Resumed), [Output::Resumed { branch: LegId(1) }]);
    assert_eq!((bench.leg.signalling(), bench.leg.poll_timeout()), (SignallingState::Up, None));
    bench.own(SignalEvent::Lost);
    bench.own(SignalEvent::Lost);
    let outputs = bench.wait(30_000);
    let [Output::Signal { .. }, Output::Event(LegEvent::Ended { reason, detail: Some(detail), .. })] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(*reason, EndReason::Timeout);
    assert!(detail.contains("did not return"), "{detail}");
    assert!(bench.leg.is_gone());
}

#[test]
fn a_page_that_is_reloaded_closes_its_media_and_does_not_end_the_leg() {
    let mut bench = Bench::placed(vec![trunk("a")]);
    bench.own(accepted());
    bench.own(SignalEvent::Lost);
    bench.leg.fail_media("closed".to_owned());
    assert!(bench.outputs().is_empty() && !bench.leg.is_gone());
    bench.own(SignalEvent::Resumed);
    bench.leg.fail_media("closed".to_owned());
    assert_eq!(bench.outputs().len(), 2);
}

#[test]
fn a_leg_waits_for_lost_signalling_as_long_as_its_setting_says() {
    let mut bench = Bench::placed(vec![trunk("a")]);
    bench.leg.lost_limit = Duration::from_secs(5);
    bench.own(accepted());
    bench.own(SignalEvent::Lost);
    assert!(bench.wait(4_999).is_empty());
    assert!(matches!(bench.wait(1)[..], [Output::Signal { .. }, Output::Event(LegEvent::Ended { .. })]));
}

fn user(contacts: Vec<Contact>) -> Option<CalledUser> {
    Some(CalledUser { name: "alice".into(), contacts })
}

/// A leg that rings at contacts with these preferences, and its branches.
fn ringing(qs: &[u16]) -> (Bench, Vec<LegId>) {
    let contacts = qs.iter().enumerate().map(|(id, &q)| Contact { id: id as u128, q, media: MediaKind::Plain });
    let mut bench = Bench::placed(vec![LegRoute { user: user(contacts.collect()), ..trunk("a") }]);
    bench.outputs();
    let branches = bench.leg.branches().collect();
    (bench, branches)
}

#[test]
fn a_branch_that_is_lost_while_it_rings_does_not_end_the_call_of_the_branch_that_answers() {
    let (mut bench, branches) = ringing(&[1_000, 1_000]);
    assert_eq!(bench.handle(branches[0], SignalEvent::Lost), [Output::Lost { branch: branches[0] }]);
    assert!(bench.handle(branches[0], SignalEvent::Lost).is_empty());
    bench.handle(branches[1], accepted());
    assert_eq!(bench.leg.signalling(), SignallingState::Up);
    let outputs = bench.wait(30_000);
    let [Output::Signal { branch, command: SignalCommand::End { reason: Some(reason), .. } }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!((*branch, &**reason), (branches[0], ending::ELSEWHERE));
    assert_eq!((bench.leg.signalling(), bench.leg.poll_timeout()), (SignallingState::Up, None));
    assert_eq!(bench.leg.branches().collect::<Vec<_>>(), [branches[1]]);
}

#[test]
fn a_lost_branch_may_return_and_answer() {
    let (mut bench, branches) = ringing(&[1_000]);
    bench.handle(branches[0], SignalEvent::Lost);
    assert_eq!(bench.handle(branches[0], SignalEvent::Resumed), [Output::Resumed { branch: branches[0] }]);
    assert!(bench.handle(branches[0], SignalEvent::Resumed).is_empty());
    assert!(bench.wait(30_000).is_empty());
    bench.handle(branches[0], accepted());
    // From the answer on, the signalling of the branch is the leg's.
    assert_eq!(bench.handle(branches[0], SignalEvent::Lost), [Output::Lost { branch: LegId(1) }]);
    assert!(matches!(bench.wait(30_000)[..], [Output::Signal { .. }, Output::Event(LegEvent::Ended { .. })]));
}

#[test]
fn a_leg_whose_branches_are_all_lost_ends_each_branch_and_then_itself() {
    let (mut bench, branches) = ringing(&[1_000, 1_000]);
    branches.iter().for_each(|branch| drop(bench.handle(*branch, SignalEvent::Lost)));
    let outputs = bench.wait(30_000);
    let [
        Output::Signal { branch: first, .. },
        Output::Signal { branch: second, .. },
        Output::Event(LegEvent::Ended { reason, detail: Some(detail), .. }),
    ] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(([*first, *second], *reason), ([branches[0], branches[1]], EndReason::Timeout));
    assert!(detail.contains("did not return"), "{detail}");
    assert!(bench.leg.is_gone() && bench.leg.branches().next().is_none());
}

#[test]
fn the_next_contacts_ring_when_the_only_branch_is_lost() {
    let (mut bench, branches) = ringing(&[1_000, 500]);
    bench.leg.lost_limit = Duration::from_secs(5);
    bench.handle(branches[0], SignalEvent::Lost);
    let outputs = bench.wait(5_000);
    assert!(
        matches!(&outputs[..], [Output::Signal { branch, .. }, Output::Place(_)] if *branch == branches[0]),
        "{outputs:?}"
    );
}

#[test]
fn a_leg_whose_media_has_no_route_ends_and_tries_no_other_route() {
    let mut bench = Bench::placed(vec![trunk("a"), trunk("b")]);
    bench.own(accepted());
    bench.leg.fail_media("no route".to_owned());
    let outputs = bench.outputs();
    let [
        Output::Signal { command: SignalCommand::End { reason: Some(reason), .. }, .. },
        Output::Event(LegEvent::Ended { reason: EndReason::Failed, sip_status: None, detail: Some(detail) }),
    ] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    assert!(reason.starts_with("Q.850;cause=41;") && detail == "no route", "{reason}: {detail}");
    // The signalling confirms the end, and the call gets no second report.
    assert!(bench.own(ended(SignalEnd::of(SignalEndCause::Local))).is_empty() && bench.leg.is_gone());
    bench.leg.fail_media("no route".to_owned());
    assert!(bench.outputs().is_empty());
}

#[test]
fn a_leg_whose_media_has_no_route_while_it_rings_ends_each_branch() {
    let (mut bench, branches) = ringing(&[1_000, 1_000]);
    bench.leg.fail_media("no route".to_owned());
    let outputs = bench.outputs();
    let [Output::Signal { branch: first, .. }, Output::Signal { branch: second, .. }, Output::Event(_)] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!([*first, *second], [branches[0], branches[1]]);
}

// ---- two kinds of media ----

/// Contacts with the same preference and these kinds of media.
fn kinds(kinds: &[MediaKind]) -> Vec<Contact> {
    kinds.iter().enumerate().map(|(id, &media)| Contact { id: id as u128, q: 1_000, media }).collect()
}

/// A leg that rings at a desk phone, a browser and another desk phone. Also returns the placements.
fn ringing_everywhere() -> (Bench, [Placement; 3]) {
    let contacts = kinds(&[MediaKind::Plain, MediaKind::WebRtc, MediaKind::Plain]);
    let mut bench = Bench::placed(vec![LegRoute { user: user(contacts), ..trunk("a") }]);
    let outputs = bench.outputs();
    let [Output::Place(phone), Output::Place(browser), Output::Place(other)] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    let placed = [phone.clone(), browser.clone(), other.clone()];
    (bench, placed)
}

#[test]
fn a_phone_and_a_browser_ring_together_with_an_offer_for_each_kind_of_media() {
    let (bench, [phone, browser, other]) = ringing_everywhere();
    let offer = |placement: &Placement| text(placement.offer.as_ref().unwrap());
    assert_eq!([offer(&phone), offer(&browser), offer(&other)], ["offer 1", "other offer 1", "offer 1"]);
    assert!(!bench.media.is_other && bench.media.other.is_some());
}

#[test]
fn the_session_of_the_kind_that_did_not_answer_is_closed() {
    for (answers, uses_other) in [(0, false), (1, true), (2, false)] {
        let (mut bench, placed) = ringing_everywhere();
        let outputs = bench.handle(placed[answers].branch, accepted());
        let [
            Output::Signal { .. },
            Output::Signal { .. },
            Output::Adopt { branch },
            Output::Event(LegEvent::Answered { .. }),
        ] = &outputs[..]
        else {
            panic!("{outputs:?}")
        };
        assert_eq!(*branch, placed[answers].branch);
        assert_eq!((bench.media.is_other, bench.media.other.is_some()), (uses_other, false));
        assert_eq!(bench.media.agreed.as_deref(), Some("a"));
        // From now on, the leg negotiates with the session that is left.
        let outputs = bench.own(SignalEvent::Offered { sdp: Some("b".into()), refusable: true });
        let [Output::Signal { command: SignalCommand::Answer { sdp }, .. }] = &outputs[..] else {
            panic!("{outputs:?}")
        };
        assert_eq!(text(sdp), "answer to b");
    }
}

#[test]
fn a_browser_that_has_no_room_for_its_media_does_not_stop_the_phone_from_ringing() {
    let mut leg = Leg::outgoing(LegId(1));
    let mut media = Media { is_full: true, ..Media::default() };
    let contacts = kinds(&[MediaKind::WebRtc, MediaKind::Plain]);
    leg.place(at(0), vec![LegRoute { user: user(contacts), ..trunk("a") }], &mut media, &mut ids());
    let Some(Output::Place(placement)) = leg.poll_output() else { panic!() };
    assert_eq!((placement.contact.unwrap().media, leg.poll_output()), (MediaKind::WebRtc, None));
    assert_eq!(leg.branches().collect::<Vec<_>>(), [placement.branch]);
}

#[test]
fn the_next_route_closes_the_session_of_the_other_kind() {
    let browser_first = kinds(&[MediaKind::WebRtc, MediaKind::Plain]);
    let first = LegRoute { user: user(browser_first), failover_on: vec![503], ..trunk("a") };
    let mut bench = Bench::placed(vec![first, trunk("b")]);
    bench.outputs();
    let branches: Vec<_> = bench.leg.branches().collect();
    bench.handle(branches[0], ended(refused(503)));
    let outputs = bench.handle(branches[1], ended(refused(503)));
    let [Output::RouteFailed(_), Output::Place(placement)] = &outputs[..] else { panic!("{outputs:?}") };
    // The trunk speaks plain RTP, as the second contact does.
    assert_eq!(placement.offer.as_deref(), Some(&b"other offer 2"[..]));
    assert!(bench.media.is_other && bench.media.other.is_none());
}

#[test]
fn a_leg_that_rings_with_two_kinds_of_media_can_be_written_down() {
    let (mut bench, placed) = ringing_everywhere();
    let bytes = serde_json::to_vec(&bench.leg.write(at(1))).unwrap();
    bench.leg = Leg::read(serde_json::from_slice(&bytes).unwrap(), at(1));
    bench.handle(placed[1].branch, accepted());
    assert!(bench.media.is_other && bench.media.agreed.is_some());
}

#[test]
fn an_offer_of_a_ringing_branch_is_answered_to_this_branch() {
    let (mut bench, branches) = ringing(&[1_000, 1_000]);
    bench.handle(branches[0], SignalEvent::Ringing { status: 183, sdp: Some("a".into()) });
    let offered = || SignalEvent::Offered { sdp: Some("c".into()), refusable: true };
    let outputs = bench.handle(branches[0], offered());
    let [Output::Signal { branch, command: SignalCommand::Answer { .. } }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(*branch, branches[0]);
    let outputs = bench.handle(branches[1], offered());
    let [Output::Signal { branch, command: SignalCommand::RefuseOffer { status: 488, .. } }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(*branch, branches[1]);
}

#[test]
fn a_digit_in_the_signalling_and_in_the_media_is_one_digit() {
    let mut bench = Bench::placed(vec![trunk("a")]);
    bench.own(accepted());
    let outputs = bench.own(SignalEvent::Digit('5'));
    assert_eq!(outputs, [Output::Digit { digit: '5', form: DigitForm::Signal }]);
    bench.leg.handle_digit(at(50), '5', DigitForm::Event);
    assert!(bench.outputs().is_empty());
}

#[test]
fn an_answer_without_usable_media_ends_the_leg_with_its_reason() {
    let mut bench = Bench::placed(vec![trunk("a"), trunk("b")]);
    bench.outputs();
    let outputs =
        bench.own(SignalEvent::Accepted { sdp: Some("bad".into()), headers: HeaderFields::new(), dialog: None });
    let [Output::Signal { command, .. }, Output::Event(LegEvent::Ended { sip_status, detail, .. })] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    let reason = Some(ending::NOT_ACCEPTABLE.to_owned());
    assert_eq!(*command, SignalCommand::End { status: 488, reason, headers: HeaderFields::new() });
    assert_eq!((*sip_status, detail.as_deref()), (Some(488), Some("its SDP has no usable audio: no audio")));
}

#[test]
fn progress_reports_whether_the_phone_rings() {
    let mut bench = Bench::placed(vec![trunk("a")]);
    bench.outputs();
    for (status, sdp, reported) in [
        (180, None, Some((true, false))),
        (183, None, Some((false, false))),
        (181, None, None),
        (182, None, None),
        (199, None, None),
        (183, Some("early"), Some((false, true))),
        (181, Some("early"), Some((false, true))),
    ] {
        let outputs = bench.own(SignalEvent::Ringing { status, sdp: sdp.map(Into::into) });
        let progress = reported.map(|(alerting, early_media)| Progress { alerting, early_media });
        let expected: Vec<_> =
            progress.map(|progress| Output::Event(LegEvent::Ringing { progress })).into_iter().collect();
        assert_eq!(outputs, expected, "{status} {sdp:?}");
    }
}

#[test]
fn a_called_leg_without_a_media_session_is_refused() {
    let mut leg = Leg::incoming(LegId(1));
    leg.accept(None::<&mut Media>);
    let Some(Output::Signal { command: SignalCommand::Refuse { status: 500, .. }, .. }) = leg.poll_output() else {
        panic!()
    };
}
