//! `SipPair`: two endpoints with a virtual clock. The link between them loses, duplicates and reorders messages.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tandem_id::Now;

use crate::config::Config;
use crate::endpoint::{Arrival, Endpoint, Output};
use crate::flow::Transport;
use crate::header::Header;
use crate::leg::{Command, Event, LegId, Outgoing};
use crate::registrar::Change;
use crate::trunk_acl::TrunkAcl;

pub(crate) const SDP: &[u8] = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

/// Returns the word for a change of a binding.
pub(crate) fn change_name(change: &Change) -> &'static str {
    match change {
        Change::Restored(_) => "restored",
        Change::Bound(_) => "bound",
        Change::Refreshed(_) => "refreshed",
        Change::Unbound(_) => "unbound",
        Change::Learned(_) => "learned",
        Change::Forgotten(_) => "forgotten",
    }
}

/// One end of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Side {
    A,
    B,
}

/// The quality of the link. Loss and duplication are in percent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Link {
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
    /// Maximum delay in milliseconds. The delay of each message is random, so messages may overtake each other.
    pub(crate) delay: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    at: Instant,
    number: u64,
    to: Side,
    data: Bytes,
}

pub(crate) struct SipPair {
    pub(crate) now: Instant,
    pub(crate) a: Endpoint,
    pub(crate) b: Endpoint,
    link: Link,
    start: Instant,
    change: fn(&mut Config),
    /// After one of this number of steps, an endpoint is replaced by a new one, which continues its legs. 0 is never.
    restart_every: u64,
    restarts: u32,
    rng: StdRng,
    wire: BinaryHeap<Reverse<InFlight>>,
    number: u64,
    pub(crate) events: Vec<(Side, Event)>,
    taken: usize,
}

impl SipPair {
    pub(crate) fn new(link: Link, seed: u8) -> Self {
        Self::with(link, seed, |_| {})
    }

    pub(crate) fn with(link: Link, seed: u8, change: fn(&mut Config)) -> Self {
        let now = instant();
        Self {
            now,
            start: now,
            change,
            restart_every: 0,
            restarts: 0,
            a: endpoint("127.0.0.1:5060", seed, change),
            b: endpoint("127.0.0.2:5060", seed.wrapping_add(128), change),
            link,
            rng: StdRng::from_seed([seed; 32]),
            wire: BinaryHeap::new(),
            number: 0,
            events: Vec::new(),
            taken: 0,
        }
    }

    pub(crate) fn command(&mut self, side: Side, command: Command) {
        let now = self.now;
        self.endpoint(side).handle_command(now, command);
        self.collect();
    }

    /// Runs both endpoints for `time`. `application` gets each event of a side, and returns the commands for the
    /// endpoint of this side.
    pub(crate) fn drive(&mut self, time: Duration, mut application: impl FnMut(Side, &Event) -> Vec<Command>) {
        let end = self.now + time;
        loop {
            while let Some((side, event)) = self.events.get(self.taken).cloned() {
                self.taken += 1;
                for command in application(side, &event) {
                    self.command(side, command);
                }
            }
            let arrival = self.wire.peek().map(|Reverse(message)| message.at);
            let next = [arrival, self.a.poll_timeout(), self.b.poll_timeout()].into_iter().flatten().min();
            let Some(next) = next.filter(|&next| next <= end) else { break };
            self.now = self.now.max(next);
            let now = self.now;
            while self.wire.peek().is_some_and(|Reverse(message)| message.at <= now) {
                let Some(Reverse(InFlight { to, data, .. })) = self.wire.pop() else { break };
                let (source, local) = match to {
                    Side::A => (address(Side::B), address(Side::A)),
                    Side::B => (address(Side::A), address(Side::B)),
                };
                let arrival = Arrival {
                    source,
                    local,
                    transport: Transport::Udp,
                    connection: None,
                    certified_trunk: None,
                    from_page: false,
                    data,
                };
                self.endpoint(to).handle_datagram(now, arrival);
                self.collect();
            }
            self.a.handle_timeout(now);
            self.b.handle_timeout(now);
            self.collect();
            if self.restart_every > 0 && self.rng.next_u64().is_multiple_of(self.restart_every) {
                self.restart();
            }
        }
        self.now = end;
    }

    /// Writes down the legs of one side, and continues them in a new endpoint from the text.
    fn restart(&mut self) {
        self.restarts += 1;
        let (side, at) = match self.restarts % 2 {
            0 => (Side::A, "127.0.0.1:5060"),
            _ => (Side::B, "127.0.0.2:5060"),
        };
        let now = wall_clock(self.start, self.now);
        // The seed must differ from all earlier seeds. Otherwise the new endpoint would make the same ids again.
        let mut seed = [255; 32];
        seed[..4].copy_from_slice(&self.restarts.to_le_bytes());
        let mut new = seeded_endpoint(at, seed, self.change);
        let old = self.endpoint(side);
        for leg in old.leg_keys() {
            let text = old.dialog_state(now, leg).expect("the leg is live").to_string();
            let state = text.parse().expect("what was written can be read");
            new.resume(now, leg, state, None).expect("the leg continues");
        }
        *old = new;
        self.collect();
    }

    fn endpoint(&mut self, side: Side) -> &mut Endpoint {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    fn collect(&mut self) {
        for side in [Side::A, Side::B] {
            while let Some(output) = self.endpoint(side).poll_output() {
                match output {
                    Output::Event(event) => self.events.push((side, event)),
                    Output::Resolve { .. } => {}
                    Output::Trust(_) | Output::Alias { .. } => {}
                    Output::Transmit { data, .. } => {
                        let to = if side == Side::A { Side::B } else { Side::A };
                        let copies = 1 + u64::from(self.rng.next_u64() % 100 < self.link.duplication);
                        for _ in 0..copies {
                            if self.rng.next_u64() % 100 >= self.link.loss {
                                let delay = Duration::from_millis(1 + self.rng.next_u64() % (self.link.delay + 1));
                                self.number += 1;
                                let (at, number, data) = (self.now + delay, self.number, data.clone());
                                self.wire.push(Reverse(InFlight { at, number, to, data }));
                            }
                        }
                    }
                }
            }
        }
    }
}

fn address(side: Side) -> SocketAddr {
    match side {
        Side::A => "127.0.0.1:5060".parse().unwrap(),
        Side::B => "127.0.0.2:5060".parse().unwrap(),
    }
}

/// Returns the start time of a virtual clock.
#[expect(clippy::disallowed_methods, reason = "an Instant can be obtained in no other way; tests only add to it")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// Returns the time of both clocks. The wall clock began at `start`, in 1970.
pub(crate) fn wall_clock(start: Instant, now: Instant) -> Now {
    let time = jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::try_from(now - start).unwrap();
    Now { instant: now, time }
}

/// Creates an endpoint at this address over UDP and TCP. Every source belongs to a trunk of this endpoint, and every
/// far end may transfer calls.
pub(crate) fn endpoint(address: &str, seed: u8, change: impl FnOnce(&mut Config)) -> Endpoint {
    seeded_endpoint(address, [seed; 32], change)
}

fn seeded_endpoint(address: &str, seed: [u8; 32], change: impl FnOnce(&mut Config)) -> Endpoint {
    let everyone = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
    let mut config = Config {
        listen: vec![format!("udp://{address}"), format!("tcp://{address}")],
        trunks: vec![TrunkAcl { name: "anyone".into(), networks: everyone }],
        trace: false,
        refer: true,
        ..Config::default()
    };
    change(&mut config);
    Endpoint::new(config, seed)
}

/// Returns the parameters of a call to `uri`.
pub(crate) fn outgoing(uri: &str) -> Box<Outgoing> {
    Box::new(Outgoing {
        request_uri: uri.to_owned(),
        from_user: "+15550001".to_owned(),
        headers: vec![Header { name: "X-Test".to_owned(), value: "1".to_owned() }],
        sdp: Bytes::from_static(SDP),
        ..Outgoing::default()
    })
}

pub(crate) fn hangup(leg: LegId) -> Command {
    Command::Hangup { leg, status: 480, reason: Some("Q.850;cause=16".to_owned()), headers: Vec::new() }
}

pub(crate) fn answer(leg: LegId) -> Command {
    Command::Answer { leg, sdp: Bytes::from_static(SDP), headers: Vec::new() }
}

mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;
    use crate::leg::EndCause;

    /// Makes 120 calls of six kinds over the link. At the end, both endpoints must have no legs.
    fn storm(link: Link, seed: u8, restart_every: u64) -> u32 {
        let mut pair = SipPair::new(link, seed);
        pair.restart_every = restart_every;
        let mut legs: HashSet<(Side, LegId)> = HashSet::new();
        for call in 0..120_u128 {
            pair.command(
                Side::A,
                Command::Invite { leg: LegId(call), invite: outgoing(&format!("sip:{call}@127.0.0.2")) },
            );
            legs.insert((Side::A, LegId(call)));
        }
        let mut kinds: HashMap<LegId, u64> = HashMap::new();
        let mut answers = 0;
        pair.drive(Duration::from_secs(100), |side, event| {
            let Some(leg) = event.leg() else { return vec![] };
            match (side, event) {
                (Side::B, Event::Incoming { incoming, .. }) => {
                    assert!(legs.insert((Side::B, leg)), "one INVITE makes one leg");
                    let kind = incoming.to_user.parse::<u64>().unwrap() % 6;
                    kinds.insert(leg, kind);
                    let ring = Command::Provisional { leg, status: 180, sdp: None, headers: Vec::new() };
                    match kind {
                        0..=2 => vec![ring, answer(leg)],
                        3 => vec![ring, Command::Reject { leg, status: 486, reason: None, headers: Vec::new() }],
                        _ => vec![ring],
                    }
                }
                (Side::B, Event::Acknowledged { .. }) => match kinds.get(&leg) {
                    Some(0) => vec![hangup(leg)],
                    Some(1) => vec![Command::Offer { leg, sdp: Bytes::from_static(SDP) }],
                    _ => vec![],
                },
                (Side::B, Event::OfferAnswered { .. } | Event::OfferRejected { .. }) => vec![hangup(leg)],
                (_, Event::Offered { .. }) => vec![Command::AnswerOffer { leg, sdp: Bytes::from_static(SDP) }],
                (Side::A, Event::Provisional { .. }) if leg.0 % 6 == 4 => vec![hangup(leg)],
                (Side::A, Event::Answered { .. }) => {
                    answers += 1;
                    if leg.0 % 6 == 2 { vec![hangup(leg)] } else { vec![] }
                }
                _ => vec![],
            }
        });
        // The application hangs up legs that still ring, and legs whose BYEs were all lost.
        for (side, leg) in &legs {
            pair.command(*side, hangup(*leg));
        }
        pair.drive(Duration::from_secs(200), |side, event| match event {
            // After a restart, a repeated INVITE of a refused call is a new call.
            Event::Incoming { leg, .. } => {
                legs.insert((side, *leg));
                vec![hangup(*leg)]
            }
            Event::Offered { leg, .. } => vec![Command::AnswerOffer { leg: *leg, sdp: Bytes::from_static(SDP) }],
            _ => vec![],
        });
        assert!(answers >= 50, "only {answers} of 60 calls were answered");
        let mut ended: HashMap<(Side, LegId), usize> = HashMap::new();
        let mut last: HashMap<(Side, LegId), bool> = HashMap::new();
        for (side, event) in &pair.events {
            let over = matches!(event, Event::Ended { .. });
            let Some(leg) = event.leg() else { continue };
            *ended.entry((*side, leg)).or_default() += usize::from(over);
            last.insert((*side, leg), over);
        }
        assert!(legs.iter().all(|leg| ended.get(leg) == Some(&1)), "every leg ends exactly once");
        assert!(last.values().all(|&over| over), "nothing follows the end: {last:?}");
        for endpoint in [&pair.a, &pair.b] {
            assert_eq!((endpoint.legs(), endpoint.transactions()), (0, 0), "tables are empty");
            assert_eq!(endpoint.table_sizes(), [0; 7]);
        }
        pair.restarts
    }

    #[test]
    fn calls_are_complete_over_a_link_without_loss() {
        storm(Link { delay: 5, ..Link::default() }, 1, 0);
    }

    #[test]
    fn calls_survive_loss_duplication_and_reordering_and_every_leg_ends() {
        for seed in 0..8 {
            storm(Link { loss: 30, duplication: 20, delay: 300 }, seed, 0);
        }
    }

    #[test]
    fn calls_that_are_resumed_from_snapshots_at_any_moment_are_complete() {
        assert!(storm(Link { delay: 5, ..Link::default() }, 1, 2) > 20);
    }

    #[test]
    fn resumed_calls_survive_loss_duplication_and_reordering() {
        for seed in 0..2 {
            assert!(storm(Link { loss: 30, duplication: 20, delay: 300 }, seed, 30) > 20);
        }
    }

    #[test]
    fn a_link_that_loses_every_packet_ends_every_call_with_a_timeout() {
        let mut pair = SipPair::new(Link { loss: 100, ..Link::default() }, 9);
        pair.command(Side::A, Command::Invite { leg: LegId(1), invite: outgoing("sip:x@127.0.0.2") });
        pair.drive(Duration::from_secs(40), |_, _| vec![]);
        assert!(matches!(pair.events[..], [(Side::A, Event::Ended { cause: EndCause::Timeout, status: None, .. })]));
        assert_eq!(pair.a.transactions(), 0);
    }
}
