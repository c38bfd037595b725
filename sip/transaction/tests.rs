//! Tests with one case for each row of the figures in RFC 3261 §17, and one case for the value of each timer.

use super::*;
use crate::testing::instant;
use std::io::ErrorKind;

const MS: fn(u64) -> Duration = Duration::from_millis;

struct Bench<M> {
    start: Instant,
    machine: M,
    timers: Timers,
}

fn client(invite: bool, reliable: bool) -> Bench<ClientMachine> {
    let (start, timers) = (instant(), Timers::default());
    Bench { start, machine: ClientMachine::new(start, invite, reliable, &timers), timers }
}

fn server(invite: bool, reliable: bool) -> Bench<ServerMachine> {
    Bench { start: instant(), machine: ServerMachine::new(invite, reliable), timers: Timers::default() }
}

impl Bench<ClientMachine> {
    fn input(&mut self, at: u64, input: ClientInput) -> Vec<Action> {
        let mut out = Vec::new();
        self.machine.handle(self.start + MS(at), input, &self.timers, &mut out);
        out
    }

    fn response(&mut self, at: u64, status: u16) -> Vec<Action> {
        self.input(at, ClientInput::Response(status))
    }

    /// Returns all actions up to the time `until`, each with its time in milliseconds.
    fn run(&mut self, until: u64) -> Vec<(u64, Action)> {
        let mut all = Vec::new();
        while let Some(at) = self.machine.next_timeout().filter(|at| *at <= self.start + MS(until)) {
            let timer = self.machine.take_due(at).expect("due");
            let at = u64::try_from((at - self.start).as_millis()).unwrap();
            all.extend(self.input(at, ClientInput::Timer(timer)).into_iter().map(|action| (at, action)));
        }
        all
    }
}

impl Bench<ServerMachine> {
    fn input(&mut self, at: u64, input: ServerInput) -> Vec<Action> {
        let mut out = Vec::new();
        self.machine.handle(self.start + MS(at), input, &self.timers, &mut out);
        out
    }

    fn run(&mut self, until: u64) -> Vec<(u64, Action)> {
        let mut all = Vec::new();
        while let Some(at) = self.machine.next_timeout().filter(|at| *at <= self.start + MS(until)) {
            let timer = self.machine.take_due(at).expect("due");
            let at = u64::try_from((at - self.start).as_millis()).unwrap();
            all.extend(self.input(at, ServerInput::Timer(timer)).into_iter().map(|action| (at, action)));
        }
        all
    }
}

fn times(actions: &[(u64, Action)], wanted: Action) -> Vec<u64> {
    actions.iter().filter(|(_, action)| *action == wanted).map(|(at, _)| *at).collect()
}

#[test]
fn timer_a_doubles_without_limit_and_timer_b_ends_an_unanswered_invite() {
    let actions = client(true, false).run(100_000);
    assert_eq!(times(&actions, Action::Retransmit), [500, 1_500, 3_500, 7_500, 15_500, 31_500]);
    assert_eq!(actions[6..], [(32_000, Action::TimedOut), (32_000, Action::Terminate)]);
}

#[test]
fn timer_e_doubles_up_to_t2_and_timer_f_ends_an_unanswered_request() {
    let actions = client(false, false).run(100_000);
    assert_eq!(
        times(&actions, Action::Retransmit),
        [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]
    );
    assert_eq!(times(&actions, Action::TimedOut), [32_000]);
}

#[test]
fn a_reliable_transport_retransmits_nothing_but_still_times_out() {
    for invite in [true, false] {
        assert_eq!(client(invite, true).run(100_000), [(32_000, Action::TimedOut), (32_000, Action::Terminate)]);
    }
}

#[test]
fn a_provisional_response_stops_timers_a_and_b_permanently() {
    let mut bench = client(true, false);
    assert_eq!(bench.response(100, 180), [Action::Deliver]);
    assert_eq!(bench.run(1_000_000), []);
    assert_eq!(bench.response(900_000, 183), [Action::Deliver]);
    assert!(bench.machine.is_pending() && !bench.machine.is_unanswered());
}

#[test]
fn after_a_provisional_response_a_request_is_retransmitted_every_t2_until_timer_f() {
    let mut bench = client(false, false);
    bench.run(500);
    assert_eq!(bench.response(600, 100), [Action::Deliver]);
    assert_eq!(
        times(&bench.run(100_000), Action::Retransmit),
        [1_500, 5_500, 9_500, 13_500, 17_500, 21_500, 25_500, 29_500]
    );
}

#[test]
fn a_refused_invite_is_acknowledged_each_time_until_timer_d() {
    for provisional in [false, true] {
        let mut bench = client(true, false);
        if provisional {
            bench.response(50, 100);
        }
        assert_eq!(bench.response(100, 486), [Action::Acknowledge, Action::Deliver]);
        assert_eq!(bench.response(600, 486), [Action::Acknowledge]);
        assert_eq!(bench.response(700, 180), []);
        assert_eq!(bench.response(700, 200), []);
        assert_eq!(bench.run(100_000), [(32_100, Action::Terminate)]);
    }
    assert_eq!(client(true, true).response(1, 300), [Action::Acknowledge, Action::Deliver, Action::Terminate]);
}

#[test]
fn an_accepted_invite_delivers_every_2xx_until_timer_m() {
    for reliable in [false, true] {
        let mut bench = client(true, reliable);
        assert_eq!(bench.response(100, 200), [Action::Deliver]);
        assert_eq!(bench.response(600, 200), [Action::Deliver]);
        assert_eq!(bench.response(600, 486), []);
        assert_eq!(bench.input(700, ClientInput::TransportError(ErrorKind::TimedOut.into())), []);
        assert_eq!(bench.run(100_000), [(32_100, Action::Terminate)]);
    }
}

#[test]
fn an_answered_request_absorbs_repetitions_until_timer_k() {
    for provisional in [false, true] {
        let mut bench = client(false, false);
        if provisional {
            bench.response(50, 100);
        }
        assert_eq!(bench.response(100, 200), [Action::Deliver]);
        assert_eq!(bench.response(200, 200), []);
        assert_eq!(bench.run(100_000), [(5_100, Action::Terminate)]);
    }
    assert_eq!(client(false, true).response(1, 481), [Action::Deliver, Action::Terminate]);
}

#[test]
fn a_transport_error_fails_a_waiting_request() {
    for invite in [true, false] {
        let mut bench = client(invite, true);
        let failed = [Action::TransportFailed(ErrorKind::TimedOut.into()), Action::Terminate];
        assert_eq!(bench.input(1, ClientInput::TransportError(ErrorKind::TimedOut.into())), failed);
        assert_eq!(bench.input(2, ClientInput::TransportError(ErrorKind::TimedOut.into())), []);
        assert_eq!(bench.response(3, 200), []);
    }
}

#[test]
fn a_repeated_invite_gets_the_last_response_while_it_rings_and_after_it_was_refused() {
    let mut bench = server(true, false);
    assert_eq!(bench.input(0, ServerInput::Respond(100)), [Action::Transmit]);
    assert_eq!(bench.input(10, ServerInput::Retransmission), [Action::Retransmit]);
    assert_eq!(bench.input(20, ServerInput::Respond(180)), [Action::Transmit]);
    assert_eq!(bench.input(30, ServerInput::Respond(486)), [Action::Transmit]);
    assert_eq!(bench.input(40, ServerInput::Retransmission), [Action::Retransmit]);
    assert_eq!(bench.input(50, ServerInput::Respond(200)), [], "one final response");
}

#[test]
fn timer_g_doubles_up_to_t2_and_timer_h_ends_an_unacknowledged_refusal() {
    let mut bench = server(true, false);
    bench.input(0, ServerInput::Respond(486));
    let actions = bench.run(100_000);
    assert_eq!(
        times(&actions, Action::Retransmit),
        [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]
    );
    assert_eq!(times(&actions, Action::TimedOut), [32_000]);
    let mut bench = server(true, true);
    bench.input(0, ServerInput::Respond(486));
    assert_eq!(bench.run(100_000), [(32_000, Action::TimedOut), (32_000, Action::Terminate)]);
}

#[test]
fn the_ack_of_a_refusal_stops_timer_g_and_timer_i_absorbs_its_repetitions() {
    let mut bench = server(true, false);
    bench.input(0, ServerInput::Respond(486));
    assert_eq!(bench.input(100, ServerInput::Ack), []);
    assert_eq!(bench.input(200, ServerInput::Ack), []);
    assert_eq!(bench.input(300, ServerInput::Retransmission), []);
    assert_eq!(bench.run(100_000), [(5_100, Action::Terminate)]);
    let mut bench = server(true, true);
    bench.input(0, ServerInput::Respond(486));
    assert_eq!(bench.input(100, ServerInput::Ack), [Action::Terminate]);
}

#[test]
fn an_accepted_invite_absorbs_repetitions_and_passes_acks_up_until_timer_l() {
    let mut bench = server(true, false);
    assert_eq!(bench.input(0, ServerInput::Respond(200)), [Action::Transmit]);
    assert_eq!(bench.input(10, ServerInput::Retransmission), []);
    assert_eq!(bench.input(20, ServerInput::Respond(200)), [Action::Retransmit]);
    assert_eq!(bench.input(30, ServerInput::Ack), [Action::Deliver]);
    assert_eq!(bench.run(100_000), [(32_000, Action::Terminate)]);
}

#[test]
fn an_unanswered_request_absorbs_repetitions_and_an_answered_one_repeats_its_answer_until_timer_j() {
    let mut bench = server(false, false);
    assert_eq!(bench.input(0, ServerInput::Retransmission), []);
    assert_eq!(bench.input(10, ServerInput::Respond(100)), [Action::Transmit]);
    assert_eq!(bench.input(20, ServerInput::Retransmission), [Action::Retransmit]);
    assert_eq!(bench.input(100, ServerInput::Respond(200)), [Action::Transmit]);
    assert_eq!(bench.input(110, ServerInput::Retransmission), [Action::Retransmit]);
    assert_eq!(bench.input(120, ServerInput::Respond(500)), []);
    assert_eq!(bench.run(100_000), [(32_100, Action::Terminate)]);
    assert_eq!(server(false, true).input(0, ServerInput::Respond(200)), [Action::Transmit, Action::Terminate]);
}
